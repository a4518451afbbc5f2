import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { BufferPool, ChunkPlan, defaultCodecs, PortableBackend } from "@tensorwire/core";
import { afterAll, beforeAll } from "vitest";
import type { ModelSource } from "../src/index.js";
import { artifactSink } from "../src/sink/artifact.js";
import { safetensorsSink } from "../src/sink/safetensors.js";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import type { Sink } from "../src/sink/sink.js";
import { artifactSource } from "../src/source/artifact.js";
import { decodedArtifact } from "../src/source/decoded.js";
import { safetensorsSource } from "../src/source/safetensors.js";
import { shardedSafetensorsSource } from "../src/source/sharded.js";
import { type PlaceUnderTest, resumableSuite, type SampleTensor } from "../src/testing/index.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function tensorsOf(source: ModelSource): Promise<SampleTensor[]> {
  const { tensors } = await source.open();
  const plan = new ChunkPlan(tensors, 32_768);
  const pool = new BufferPool(1 << 24);
  const found = tensors.map((info) => ({ ...info, data: new Uint8Array(0) }));
  for (const chunk of plan.walk()) {
    const { bytes, release } = await source.read(chunk, pool);
    found[chunk.tensor]!.data = Buffer.concat([found[chunk.tensor]!.data, bytes]);
    release();
  }
  await source.close();
  return found;
}

function at(name: string, sink: (path: string) => Sink, source: (path: string) => ModelSource) {
  return async (): Promise<PlaceUnderTest> => {
    const place = await mkdtemp(join(folder, "place-"));
    const path = join(place, name);
    const leftovers = async () => (await readdir(place)).filter((file) => /\.part\b/.test(file));
    return {
      sink: () => sink(path),
      forsake: async () => {
        // Its pid runs, but began at another time.
        const dead = JSON.stringify({ pid: process.pid, host: hostname(), started: "1", token: "dead" });
        for (const file of await leftovers())
          if (file.endsWith(".lock")) await writeFile(join(place, file), dead);
      },
      result: async () => {
        const complete = (await readdir(place)).some((file) => !/\.part\b/.test(file));
        return complete ? tensorsOf(source(path)) : undefined;
      },
      leftovers,
    };
  };
}

resumableSuite("safetensors file", at("model.safetensors", safetensorsSink, safetensorsSource));

resumableSuite(
  "sharded safetensors",
  at(
    "model.safetensors.index.json",
    (path) => shardedSafetensorsSink(path, { maxShardBytes: 100_000 }),
    shardedSafetensorsSource,
  ),
);

resumableSuite(
  "artifact",
  at("model.twire", artifactSink, (path) =>
    decodedArtifact(artifactSource(path), { backend: new PortableBackend(), registry: defaultCodecs }),
  ),
  {
    forgets: false,
    recovers: true,
  },
);
