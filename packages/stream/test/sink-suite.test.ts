import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferPool, ChunkPlan } from "@tensorwire/core";
import { afterAll, beforeAll } from "vitest";
import type { ModelSource } from "../src/index.js";
import { safetensorsSink } from "../src/sink/safetensors.js";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import { safetensorsSource } from "../src/source/safetensors.js";
import { shardedSafetensorsSource } from "../src/source/sharded.js";
import { type SampleTensor, sinkSuite } from "../src/testing/index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function tensorsOf(source: ModelSource): Promise<SampleTensor[]> {
  const { tensors } = await source.open();
  const plan = new ChunkPlan(tensors, 1 << 24);
  const pool = new BufferPool(1 << 24);
  const found = tensors.map((info) => ({ ...info, data: new Uint8Array(0) }));
  for (const chunk of plan.walk()) {
    const { bytes, release } = await source.read(chunk, pool);
    found[chunk.tensor]!.data = bytes.slice();
    release();
  }
  await source.close();
  return found;
}

sinkSuite("safetensors file", async () => {
  const place = await mkdtemp(join(folder, "file-"));
  const path = join(place, "model.safetensors");
  return { sink: safetensorsSink(path), ...contents(place, () => safetensorsSource(path)) };
});

sinkSuite("sharded safetensors", async () => {
  const place = await mkdtemp(join(folder, "shards-"));
  const index = join(place, "model.safetensors.index.json");
  const sink = shardedSafetensorsSink(index, { maxShardBytes: 100_000 });
  return { sink, ...contents(place, () => shardedSafetensorsSource(index)) };
});

function contents(place: string, open: () => ModelSource) {
  const isPart = (name: string): boolean => /\.part(\.lock)?$/.test(name);
  return {
    result: async () => ((await readdir(place)).every(isPart) ? undefined : tensorsOf(open())),
    leftovers: async () => (await readdir(place)).filter(isPart),
  };
}
