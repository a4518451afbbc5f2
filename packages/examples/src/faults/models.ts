import { writeFile } from "node:fs/promises";
import { type DType, elementCount, serializeSafetensorsHeader, type TensorInfo } from "@tensorwire/core";
import { fillNoise } from "../model/noise.js";

/** Ways of encoding that transfers under faults go by. */
export const CODECS = [
  { codec: "none" },
  { codec: "float16" },
  { codec: "blockwise8" },
  { codec: "normfloat4" },
  { codec: { name: "normfloat4", nested: true } },
  { codec: { name: "linear4", rounding: "stochastic" }, seed: "0123456789abcdef" },
  { codec: "lossless" },
  { codec: "adaquant" },
  { codec: "blockwise8", compress: "auto" },
] as const;
export type CodecChoice = (typeof CODECS)[number];

export const codecName = ({ codec, ...other }: CodecChoice): string =>
  `${typeof codec === "string" ? codec : Object.values(codec).join(" ")}${"compress" in other ? " packed" : ""}`;

const tensor = (name: string, dtype: DType, ...shape: number[]): TensorInfo => ({ name, dtype, shape });

/** A model of a few chunks with a bit of everything: what is encoded, what is not, what is empty, what is one element. */
export const MIXED: readonly TensorInfo[] = [
  tensor("embedding", "F32", 160, 128),
  tensor("half", "BF16", 9000),
  tensor("positions", "I64", 500),
  tensor("scale", "F32"),
  tensor("empty", "F32", 0, 8),
  tensor("mask", "BOOL", 33),
  tensor("head", "F32", 64, 150),
];

/** Writes the model as a safetensors file. @param salt Another one, another model of the same shapes. */
export async function writeModel(path: string, tensors: readonly TensorInfo[], salt = 0): Promise<Buffer> {
  const { bytes } = serializeSafetensorsHeader(tensors, new Map([["origin", "faults"]]));
  const data = tensors.map((info, i) => tensorBytes(info, i + 1 + salt * 31));
  const whole = Buffer.concat([bytes, ...data]);
  await writeFile(path, whole);
  return whole;
}

/** Values that a codec has something to do with. */
function tensorBytes({ dtype, shape }: TensorInfo, index: number): Uint8Array {
  const count = elementCount(shape);
  const values = new Float32Array(count);
  fillNoise(values, index, index * 64);
  if (dtype === "F32") return new Uint8Array(values.buffer);
  if (dtype === "BF16") {
    const bits = new Uint32Array(values.buffer);
    return new Uint8Array(Uint16Array.from(bits, (each) => each >>> 16).buffer);
  }
  if (dtype === "I64") return new Uint8Array(BigInt64Array.from(values, (_, i) => BigInt(i * index)).buffer);
  return Uint8Array.from(values, (value) => (value > 0 ? 1 : 0));
}
