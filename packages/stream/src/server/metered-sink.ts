import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { type CodecRegistry, quote, RECORD_BYTES, TensorwireError } from "@tensorwire/core";
import { PART_SUFFIX } from "../journal/leftover.js";
import { estimate } from "../sink/artifact.js";
import type { EncodedSink } from "../sink/sink.js";
import type { SpoolRoom } from "./spool-room.js";

/**
 * An artifact's sink that asks for room on the disk: for what it will take about, before any data; for what it takes beyond that,
 * as it comes. What it leaves counts on.
 * @param maxBytes What the artifact may take at most, whatever room there is.
 */
export function meteredSink(
  sink: EncodedSink,
  path: string,
  room: SpoolRoom,
  registry: CodecRegistry,
  maxBytes = Number.POSITIVE_INFINITY,
): EncodedSink {
  const { open, writeEncoded, finish, abort } = sink;
  let claimed = 0;
  let written = 0;
  const claim = (bytes: number): void => {
    if (bytes > maxBytes) {
      const message = `${quote(basename(path))} takes ${bytes} bytes or more, over the ${maxBytes} of maxClientBytes`;
      throw new TensorwireError("LIMIT_EXCEEDED", message);
    }
    room.claim(path, bytes);
    claimed = bytes;
  };
  sink.open = async (model) => {
    claim(estimate(model, registry));
    await open.call(sink, model);
  };
  sink.writeEncoded = (chunk, record, payload) => {
    written += payload.length + RECORD_BYTES;
    if (written > claimed) {
      // Not for every chunk that is a little larger than it should be.
      claim(Math.max(written, Math.min(maxBytes, Math.ceil(claimed * 1.125))));
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
