import {
  byteLength,
  type DType,
  defaultCodecs,
  elementCount,
  type FloatDType,
  isFloatDType,
} from "@tensorwire/core";
import { afterEach } from "vitest";
import {
  memoryChannelPair,
  type ReceivedTensor,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TensorMap,
  type TensorValue,
} from "../src/index.js";

export const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

export function floats(count: number, seed: number): Float32Array {
  return new Float32Array(count).map((_, i) => Math.sin(i * 12.9898 + seed) * 0.02 * (1 + (i % 7)));
}

export function filled(
  dtype: DType,
  shape: number[],
  seed = 1,
): { dtype: DType; shape: number[]; data: Uint8Array } {
  const elements = elementCount(shape);
  if (!isFloatDType(dtype)) {
    const data = new Uint8Array(byteLength(dtype, elements)).map(
      (_, i) => (i * 31 + seed) & (dtype === "BOOL" ? 1 : 255),
    );
    return { dtype, shape, data };
  }
  const data = new Uint8Array(byteLength(dtype, elements));
  const source = new Uint8Array(floats(elements, seed).buffer);
  defaultCodecs.get("none").decode({ name: "none" }, "F32", elements, source, dtype, data);
  return { dtype, shape, data };
}

export const mixed: TensorMap = {
  scalar: filled("F32", []),
  empty: filled("F32", [0, 4]),
  odd: filled("F32", [12_289]),
  half: filled("F16", [3, 4097]),
  brain: filled("BF16", [100, 101]),
  double: filled("F64", [8193]),
  whole: filled("F32", [64, 1024]),
  ids: filled("I64", [129]),
  mask: filled("BOOL", [77]),
  eighth: filled("F8_E4M3", [5000]),
  last: filled("BF16", [0]),
};

export const given = (name: string): TensorValue => (mixed as Record<string, TensorValue>)[name]!;

export async function collect(tensors: AsyncIterable<ReceivedTensor>): Promise<Map<string, ReceivedTensor>> {
  const got = new Map<string, ReceivedTensor>();
  for await (const tensor of tensors) got.set(tensor.name, { ...tensor, data: tensor.data.slice() });
  return got;
}

export const over = async (options: StreamOptions, source: TensorMap, output?: FloatDType) => {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b, { outputDtype: output });
  const [got, sent] = await Promise.all([collect(received), streamModel(source, a, options)]);
  return { got, sent, summary: await received.done };
};
