import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  byteLength,
  defaultCodecs,
  elementCount,
  type FloatDType,
  none,
  PortableBackend,
  serializeSafetensorsHeader,
  serializeShardIndex,
} from "@tensorwire/core";
import { afterAll, beforeAll } from "vitest";
import { apply, cast, delta, fromTensors, rename, select, streamModel, tensorsSource } from "../src/index.js";
import { artifactSource } from "../src/source/artifact.js";
import { decodedArtifact } from "../src/source/decoded.js";
import { rawFileSource } from "../src/source/raw-file.js";
import type { ModelSource } from "../src/source/source.js";
import { safetensorsSource } from "../src/source/safetensors.js";
import { shardedSafetensorsSource } from "../src/source/sharded.js";
import { tensorflowJsSource } from "../src/source/tfjs.js";
import { type SampleTensor, sampleTensors, sourceSuite } from "../src/testing/index.js";

const backend = new PortableBackend();
const tensors = sampleTensors();
const map = new Map(tensors.map(({ name, ...tensor }) => [name, tensor]));
let folder: string;

const fileOf = (part: readonly SampleTensor[]): Buffer =>
  Buffer.concat([serializeSafetensorsHeader(part).bytes, ...part.map(({ data }) => data)]);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  await writeFile(join(folder, "model.safetensors"), fileOf(tensors));
  const shards = [tensors.slice(0, 4), tensors.slice(4)];
  const names = shards.map((_, i) => `model-0000${i + 1}-of-00002.safetensors`);
  for (const [i, shard] of shards.entries()) await writeFile(join(folder, names[i]!), fileOf(shard));
  const weights = shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]!] as const));
  const index = serializeShardIndex(new Map(weights), { total_size: 1 } as never);
  await writeFile(join(folder, "model.safetensors.index.json"), index);
  await streamModel(map, join(folder, "model.twire"), { backend, codec: "none", chunkBytes: 65_536 });
  await streamModel(zeros, join(folder, "zeros.twire"), { backend, codec: "normfloat4", chunkBytes: 65_536 });
  await writeTfjs();
});
afterAll(() => rm(folder, { recursive: true }));

const tfjsTypes: Record<string, string> = { F32: "float32", BOOL: "bool" };
const tfjs = tensors.filter(({ dtype }) => dtype in tfjsTypes);

/** Its weights in shards of 10,000 bytes, whatever the tensors: as the converter does it. */
async function writeTfjs(): Promise<void> {
  const bytes = Buffer.concat(tfjs.map(({ data }) => data));
  const paths: string[] = [];
  for (let at = 0; at < bytes.length; at += 10_000) {
    paths.push(`group1-shard${paths.length + 1}.bin`);
    await writeFile(join(folder, paths.at(-1)!), bytes.subarray(at, at + 10_000));
  }
  const weights = tfjs.map(({ name, shape, dtype }) => ({ name, shape, dtype: tfjsTypes[dtype] }));
  await writeFile(join(folder, "model.json"), JSON.stringify({ weightsManifest: [{ paths, weights }] }));
}

sourceSuite("tensors in memory", async () => ({ source: tensorsSource(map), tensors }));
sourceSuite("declared tensors", async () => ({ source: fromTensors(tensors, tensors), tensors }));
sourceSuite("safetensors file", async () => ({
  source: safetensorsSource(join(folder, "model.safetensors")),
  tensors,
}));
sourceSuite("sharded safetensors", async () => ({
  source: shardedSafetensorsSource(join(folder, "model.safetensors.index.json")),
  tensors,
}));
sourceSuite("TensorFlow.js model", async () => ({
  source: tensorflowJsSource(join(folder, "model.json")),
  tensors: tfjs,
}));
sourceSuite("decoded artifact", async () => ({
  source: decodedArtifact(artifactSource(join(folder, "model.twire")), { backend, registry: defaultCodecs }),
  tensors,
}));
sourceSuite("raw file", async () => {
  const data = fileOf(tensors);
  const raw: SampleTensor = { name: "model.safetensors", dtype: "U8", shape: [data.length], data };
  return { source: rawFileSource(join(folder, "model.safetensors")), tensors: [raw] };
});

// What is computed: of files, of artifacts, and of one another.

const artifact = () => artifactSource(join(folder, "model.twire"));
const file = () => join(folder, "model.safetensors");
const some = tensors.filter(({ name }) => name.startsWith("w") || name.endsWith("e"));
const floats: readonly string[] = ["F16", "BF16", "F32", "F64"];

/** A model of zeros: what is added to it, or taken from it, stays as it is. */
const zeros = new Map(
  tensors.map(({ name, data, ...info }) => [name, { ...info, data: new Uint8Array(data.length) }]),
);
/** The tensors with finite elements, of which differences are numbers. */
const tame = tensors.map((tensor) =>
  floats.includes(tensor.dtype)
    ? { ...tensor, data: tensor.data.map((byte, i) => (i % 2 ? byte & 63 : byte)) }
    : tensor,
);
const tameMap = new Map(tame.map(({ name, ...tensor }) => [name, tensor]));

/** The same in another float dtype, by the reference. */
function converted(of: readonly SampleTensor[], output: FloatDType): SampleTensor[] {
  return of.map((tensor) => {
    if (!floats.includes(tensor.dtype)) return tensor;
    const elements = elementCount(tensor.shape);
    const data = new Uint8Array(byteLength(output, elements));
    none.decode({ name: "none" }, tensor.dtype, elements, tensor.data, output, data);
    return { ...tensor, dtype: output, data };
  });
}

for (const [kind, given] of [
  ["a file", file],
  ["an artifact that is decoded", () => decodedArtifact(artifact(), { backend, registry: defaultCodecs })],
] as const) {
  const model = given as () => ModelSource;
  sourceSuite(`some tensors of ${kind}`, async () => ({
    source: select(model(), ["w*", "*e"]) as ModelSource,
    tensors: some,
  }));
  sourceSuite(`other names for ${kind}`, async () => ({
    source: rename(model(), (name) => `model.${name}`) as ModelSource,
    tensors: tensors.map((tensor) => ({ ...tensor, name: `model.${tensor.name}` })),
  }));
  for (const output of ["F16", "F64"] as const) {
    sourceSuite(`${output} of ${kind}`, async () => ({
      source: cast(model(), output),
      tensors: converted(tensors, output),
    }));
  }
}
sourceSuite("the difference of a file and an artifact", async () => ({
  source: delta(tameMap, join(folder, "zeros.twire")),
  tensors: tame,
}));
sourceSuite("the difference of 16 bits in 32", async () => ({
  source: delta(tameMap, zeros, { dtype: "F32" }),
  tensors: tame.map((tensor) =>
    ["F16", "BF16"].includes(tensor.dtype) ? converted([tensor], "F32")[0]! : tensor,
  ),
}));
sourceSuite("a base with its delta, and a selection of that", async () => ({
  source: select(apply(join(folder, "zeros.twire"), delta(tameMap, join(folder, "zeros.twire"))), [
    "*",
  ]) as ModelSource,
  tensors: tame,
}));
sourceSuite("a delta that is read once", async () => ({
  source: apply(zeros, fromTensors(tame, tame), { anyBase: true }),
  tensors: tame,
}));
