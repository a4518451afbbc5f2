import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesOf, defaultCodecs, type FloatDType } from "@tensorwire/core";
import { afterEach, beforeEach } from "vitest";
import {
  memoryChannelPair,
  receiveModel,
  type StreamOptions,
  safetensorsSource,
  streamModel,
  type TensorMap,
  type TensorValue,
} from "../src/index.js";
import { readWhole } from "./source-reading.js";

export let folder: string;
export const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-residuals-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

export const N = 20_011;
export const update = (round: number): Float32Array =>
  new Float32Array(N).map(
    (_, i) => Math.sin(i * 12.9898) * 0.02 * (1 + (i % 7)) + Math.sin(round + i) * 1e-4,
  );

export function tensor(dtype: FloatDType, values: Float32Array): TensorValue {
  const data = new Uint8Array({ F16: 2, BF16: 2, F32: 4, F64: 8 }[dtype] * values.length);
  defaultCodecs.get("none").decode({ name: "none" }, "F32", values.length, bytesOf(values), dtype, data);
  return { dtype, shape: [values.length], data };
}

export function valuesOf({ dtype, data }: Pick<TensorValue, "dtype" | "data">): Float64Array {
  const values = new Float64Array(data.byteLength / { F16: 2, BF16: 2, F32: 4, F64: 8 }[dtype as FloatDType]);
  const bytes = bytesOf(data);
  if (dtype === "F64") bytesOf(values).set(bytes);
  else {
    const floats = new Float32Array(values.length);
    defaultCodecs.get("none").decode({ name: "none" }, dtype, values.length, bytes, "F32", bytesOf(floats));
    values.set(floats);
  }
  return values;
}

/** What a receiver has of the tensor `w`. */
export async function over(model: TensorMap, options: StreamOptions): Promise<Float64Array> {
  const [out, back] = memoryChannelPair();
  const receiving = receiveModel(back);
  const sending = streamModel(model, out, { chunkBytes: 32_768, ...options });
  sending.catch(() => {});
  let found: Float64Array = new Float64Array();
  for await (const { name, dtype, data } of receiving) if (name === "w") found = valuesOf({ dtype, data });
  await sending;
  return found;
}

export const residualsOf = async (path: string): Promise<Float64Array> =>
  valuesOf({ dtype: "F32", data: (await readWhole(safetensorsSource(path))).tensors.get("w")! });
