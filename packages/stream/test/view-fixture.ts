import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { memoryChannelPair } from "../src/channel/memory.js";
import { receiveModel, streamModel } from "../src/index.js";
import type { EncodedSource, ModelSource } from "../src/source/source.js";
import { type SampleTensor, sampleTensors } from "../src/testing/index.js";

export const tensors = sampleTensors();
export const names = tensors.map(({ name }) => name);
export const map = new Map(tensors.map(({ name, ...tensor }) => [name, tensor]));
export let folder: string;
export let artifact: string;

/** Registers the model as an artifact, in a folder of the tests' own. */
export function hasArtifact(): void {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
    artifact = join(folder, "model.twire");
    await streamModel(map, artifact, { codec: "normfloat4", chunkBytes: 32_768, integrity: "sha256" });
  });
  afterAll(() => rm(folder, { recursive: true }));
}

/** Brings a source to the other end of a channel. */
export async function received(
  source: ModelSource | EncodedSource,
  options: object = {},
): Promise<SampleTensor[]> {
  const [here, there] = memoryChannelPair();
  const sending = streamModel(source, here, options);
  // One that cannot be opened never says a word.
  sending.catch((error) => here.close(error));
  const got: SampleTensor[] = [];
  const receiving = (async () => {
    for await (const tensor of receiveModel(there))
      got.push({ ...tensor, data: new Uint8Array(tensor.data) });
  })();
  const failed = await Promise.allSettled([sending, receiving]);
  for (const result of failed) if (result.status === "rejected") throw result.reason;
  return got;
}

export const bytesByName = (of: readonly SampleTensor[]) =>
  new Map(of.map(({ name, data }) => [name, Buffer.from(data)]));
