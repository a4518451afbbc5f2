import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TensorMap } from "@tensorwire/stream";
import { fillNoise } from "../../model/noise.js";
import { MIXED, writeModel } from "../models.js";
import { CHUNK_BYTES, type Sample, WINDOW_BYTES } from "./scripts.js";

/** Models that are small, and have between them every kind of frame, codec, packing and fallback. */
export async function samples(scratch: string): Promise<Sample[]> {
  const floats = (count: number): Float32Array => {
    const values = new Float32Array(count);
    fillNoise(values, count % 7);
    return values;
  };
  const odd = floats(700);
  odd[5] = Number.NaN;
  const tiny: TensorMap = {
    a: { dtype: "F32", shape: [3, 5], data: floats(15) },
    b: { dtype: "I8", shape: [9], data: new Int8Array(9).fill(3) },
    c: { dtype: "F32", shape: [0], data: new Float32Array(0) },
    d: { dtype: "F32", shape: [], data: floats(1) },
  };
  const layer: TensorMap = { "layer.weight": { dtype: "F32", shape: [30, 30], data: floats(900) } };
  const chunks: TensorMap = {
    long: { dtype: "F32", shape: [9000], data: floats(9000) },
    short: { dtype: "F32", shape: [300], data: floats(300) },
  };
  const zeros: TensorMap = { zeros: { dtype: "F32", shape: [2000], data: new Float32Array(2000) } };
  const file = join(scratch, "sample.safetensors");
  await writeModel(file, MIXED.slice(2));
  const raw = join(scratch, "sample.bin");
  await writeFile(raw, floats(600));
  const common = { windowBytes: WINDOW_BYTES, chunkBytes: CHUNK_BYTES, minElements: 0 };
  const stochastic = { name: "linear4", rounding: "stochastic", seed: "00000000000000aa" } as const;
  const sample = (name: string, model: Sample["model"], options: Sample["options"] = {}): Sample => ({
    name,
    model,
    options: { ...common, ...options },
  });
  return [
    sample("tiny", tiny),
    sample("nothing", {}),
    sample("chunks", chunks, { codec: "float16" }),
    sample("four bits", layer, { codec: "normfloat4" }),
    sample("nested", layer, { codec: { name: "float4", nested: true } }),
    sample("eight bits", layer, { codec: "blockwise8" }),
    sample("stochastic", layer, { codec: stochastic }),
    sample("affine", layer, { codec: { name: "linear3", mode: "affine" } }),
    sample("lossless", layer, { codec: "lossless" }),
    sample("packed", zeros, { codec: "blockwise8", compress: "auto" }),
    sample("adaptive", layer, { codec: "adaquant" }),
    sample("fallback", { odd: { dtype: "F32", shape: [700], data: odd } }, { codec: "normfloat4" }),
    sample("file", file, { codec: "bfloat16" }),
    sample("raw", raw),
  ];
}
