import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesOf, type DType, none } from "@tensorwire/core";
import { afterAll, beforeAll } from "vitest";
import {
  type ModelSource,
  receiveModel,
  streamModel,
  type TensorMap,
  type TensorsOptions,
  type TensorValue,
  tensorsSource,
} from "../src/index.js";
import { readWhole, type WholeModel } from "./source-reading.js";

export let folder: string;
let files = 0;

/** A path in the folder of the tests, for one more artifact. */
export const path = (): string => join(folder, `${files++}.twire`);

/** Registers a folder of the tests' own. */
export function hasFolder(): void {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tensorwire-aggregate-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
}

export const CHUNK = 32_768;

/** Values that tell clients and places apart, of both signs and several magnitudes. */
export function values(client: number, elements = 10_007): Float32Array {
  return new Float32Array(elements).map(
    (_, i) => Math.sin(i * 12.9898 + client * 7.7) * 0.02 * (1 + (i % 7)),
  );
}

/** A model of a large tensor and a small one. */
export function update(client: number, elements = 10_007): Record<string, TensorValue> {
  return {
    weight: { dtype: "F32", shape: [elements], data: values(client, elements) },
    bias: { dtype: "F32", shape: [37], data: values(client + 0.5, 37) },
  };
}

/** The same with metadata. */
export function updateOf(client: number, metadata: TensorsOptions["metadata"]): ModelSource {
  return tensorsSource(update(client), { metadata });
}

export async function read(source: ModelSource, chunkBytes = CHUNK): Promise<WholeModel> {
  // Its own chunk size is known only when it is open: those of these tests are all the same.
  const whole = await readWhole(source, chunkBytes);
  if (whole.loans) throw new Error(`${whole.loans} loans are out`);
  return whole;
}

/** The elements of any float dtype as binary64. */
export function floats(bytes: Uint8Array, dtype: DType = "F32"): Float64Array {
  if (dtype === "F64") return new Float64Array(bytes.slice().buffer);
  const single = new Float32Array(bytes.length / { F16: 2, BF16: 2, F32: 4 }[dtype as "F32"]);
  none.decode({ name: "none" }, dtype, single.length, bytes, "F32", bytesOf(single));
  return Float64Array.from(single);
}

/** Elements of a float dtype, nearest to these, by way of float32. */
export function elementsOf(numbers: ArrayLike<number>, dtype: DType): Uint8Array {
  if (dtype === "F64") return bytesOf(Float64Array.from(numbers));
  const single = bytesOf(Float32Array.from(numbers));
  const target = new Uint8Array((single.length / 4) * { F16: 2, BF16: 2, F32: 4 }[dtype as "F32"]);
  none.decode({ name: "none" }, "F32", numbers.length, single, dtype, target);
  return target;
}

/** A model as an artifact at `path`. */
export async function pack(
  path: string,
  model: TensorMap | ModelSource,
  codec = "none",
  chunkBytes = CHUNK,
): Promise<string> {
  await streamModel(model, path, { codec, chunkBytes, minElements: 0 });
  return path;
}

/** What a receiver gets of an artifact, in binary64 where it is of floats: by the way that every transfer goes. */
export async function received(path: string): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  for await (const { name, data } of receiveModel(path, { outputDtype: "F64" }))
    found.set(name, data.slice());
  return found;
}
