import { stat } from "node:fs/promises";
import { type CodecRegistry, RECORD_BYTES } from "@tensorwire/core";
import { PART_SUFFIX } from "../journal/leftover.js";
import { estimate } from "../sink/artifact.js";
import type { EncodedSink } from "../sink/sink.js";
import type { SpoolRoom } from "./spool-room.js";

/**
 * An artifact's sink that asks for room on the disk: for what it will take about, before any data; for what it takes beyond that,
 * as it comes. What it leaves counts on.
 */
export function meteredSink(
  sink: EncodedSink,
  path: string,
  room: SpoolRoom,
  registry: CodecRegistry,
): EncodedSink {
  const { open, writeEncoded, finish, abort } = sink;
  let claimed = 0;
  let written = 0;
  sink.open = async (model) => {
    claimed = estimate(model, registry);
    room.claim(path, claimed);
    await open.call(sink, model);
  };
  sink.writeEncoded = (chunk, record, payload) => {
    written += payload.length + RECORD_BYTES;
    if (written > claimed) {
      claimed = Math.max(written, claimed + claimed / 8);
      room.claim(path, claimed);
    }
    return writeEncoded.call(sink, chunk, record, payload);
  };
  sink.finish = async (totals) => {
    await finish.call(sink, totals);
    room.settle(path, await sizeOf(path));
  };
  sink.abort = async (error) => {
    await abort.call(sink, error);
    // Under either name, or none: an interruption leaves a part, and what was there before stays.
    room.settle(path, (await sizeOf(path)) + (await sizeOf(`${path}${PART_SUFFIX}`)));
  };
  return sink;
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
