import { decodeBlocks, encodeBlocks } from "./wgsl/blocks.js";
import { type DeviceDType, LOAD, STORE } from "./wgsl/elements.js";
import { reciprocalOf } from "./wgsl/exact-division.js";
import { EXACT_FLOAT } from "./wgsl/exact-float.js";
import { HALF } from "./wgsl/half.js";
import { decodeHalves, encodeHalves, type HalfCodecName } from "./wgsl/half-codec.js";
import { DECODE_LINEAR, ENCODE_LINEAR } from "./wgsl/linear.js";
import { NESTED_MEAN, NESTED_SCALES } from "./wgsl/nested.js";
import { BINDINGS, DECODED, MADE } from "./wgsl/parameters.js";

/** What differs from one codec to another in the way its elements are encoded and decoded. */
export type CodecShape = HalfCodecName | "blocks4" | "blocks8" | "linear";

/** A shader: what it does, and the dtype that it reads elements of, or writes. */
export type Kernel =
  | { readonly does: "encode" | "decode"; readonly shape: CodecShape; readonly dtype: DeviceDType }
  | { readonly does: "nested-mean" | "nested-scales" };

/** What a kernel is known by. */
export function kernelName(kernel: Kernel): string {
  return "shape" in kernel ? `${kernel.does} ${kernel.shape} ${kernel.dtype}` : kernel.does;
}

const encoders: Readonly<Record<CodecShape, string>> = {
  float16: encodeHalves("float16"),
  bfloat16: encodeHalves("bfloat16"),
  blocks4: encodeBlocks(4),
  blocks8: encodeBlocks(8),
  linear: ENCODE_LINEAR,
};

const decoders: Readonly<Record<CodecShape, string>> = {
  float16: decodeHalves("float16"),
  bfloat16: decodeHalves("bfloat16"),
  blocks4: decodeBlocks(4),
  blocks8: decodeBlocks(8),
  linear: DECODE_LINEAR,
};

/** A kernel's source. `reciprocalError` is for tests: see `reciprocalOf`. */
export function kernelSource(kernel: Kernel, reciprocalError = 0): string {
  const arithmetic = [EXACT_FLOAT, reciprocalOf(`${Math.trunc(reciprocalError)}`), HALF, BINDINGS];
  if (kernel.does === "decode") {
    return [...arithmetic, DECODED, STORE[kernel.dtype], decoders[kernel.shape]].join("\n");
  }
  if (kernel.does === "encode") {
    return [...arithmetic, MADE, LOAD[kernel.dtype], encoders[kernel.shape]].join("\n");
  }
  return [...arithmetic, MADE, kernel.does === "nested-mean" ? NESTED_MEAN : NESTED_SCALES].join("\n");
}
