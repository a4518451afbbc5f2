import { rm } from "node:fs/promises";
import { join } from "node:path";
import { formatMiB } from "../../model/byte-size.js";
import { writeNoise } from "../../model/noise-model.js";
import { copies } from "../end-to-end-entries.js";
import { f32Bytes, llamaShapes } from "../models.js";
import { ours } from "../ours.js";
import { roomBytes, touch } from "../room.js";
import type { BenchmarkContext, Section } from "../section.js";
import type { LlamaRow, NvflareLlamaData, Taken } from "./data.js";
import { type NvflareEntry, runEntries } from "./entries.js";
import { renderLlama } from "./llama-page.js";

const ROUNDS = 3;

/** Ours, in the form of the table that NVFlare publishes. */
export const nvflareLlama: Section<NvflareLlamaData> = {
  id: "nvflare-llama",
  title: "Beside NVFlare's published table",
  measure,
  render: renderLlama,
};

async function measure(context: BenchmarkContext): Promise<NvflareLlamaData> {
  const { quick, scratch, log, skip } = context;
  const tensors = llamaShapes();
  const bytes = f32Bytes(tensors);
  const room = quick ? 0 : await roomBytes(scratch);
  if (room < 2 * bytes) {
    const why = `it needs ${formatMiB(2 * bytes)} for its two files, and there are ${formatMiB(room)}`;
    skip("ours for the same shapes", quick ? "not in a quick run" : why);
    return { bytes, rows: [] };
  }
  const model = join(scratch, "llama.safetensors");
  await touch(scratch, 2 * bytes);
  await writeNoise(model, tensors);
  const how = { scratch, channel: "ws", codec: "normfloat4" } as const;
  const container = (taken: Taken): NvflareEntry<LlamaRow> => {
    const name = `container, ${taken}`;
    return {
      row: { name, way: "container", taken },
      contender: ours({ name, model: tensors, taken, ...how }),
    };
  };
  // The best of them: by others the ratio would flatter.
  const fast = (await copies(context, model)).filter(({ name }) => /1 MiB/.test(name));
  const copied = fast.map(
    ({ name, contender }): NvflareEntry<LlamaRow> => ({ row: { name, way: "copy" }, contender }),
  );
  const entries = [
    container("tensors"),
    container("chunks"),
    { row: { name: "file", way: "file" as const }, contender: ours({ name: "file", model, ...how }) },
    ...copied,
  ];
  log(`Llama-3.2-1B's shapes: ${entries.length} contenders`);
  const rows = await runEntries<LlamaRow>(context, ROUNDS, entries);
  await rm(model);
  return { bytes, rows };
}
