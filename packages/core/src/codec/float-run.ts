import type { FloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { bf16ToF32Bits, f16ToF32Bits, f32ToBf16Bits, f32ToF16Bits } from "./float-bits.js";

/** Elements that codecs convert at once: a multiple of every block size, and small enough for the first-level cache. */
export const RUN = 4096;

// Typed arrays have the machine's byte order; tensors and payloads are little-endian.
if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
  throw new TensorwireError("INVALID_ARGUMENT", "tensorwire runs on little-endian machines only");
}

// One scratch for all: codecs are synchronous and never call one another in the middle of a run.
const widened = new Float32Array(RUN);
const widenedBits = new Uint32Array(widened.buffer);
const shifted = new Uint8Array(8 * RUN);
const narrowed = new Uint8Array(8 * RUN);

let halves: Uint32Array | undefined;

/** f16ToF32Bits of all 65,536 patterns: four times as fast as computing them. */
function halfTable(): Uint32Array {
  halves ??= Uint32Array.from({ length: 65536 }, (_, half) => f16ToF32Bits(half));
  return halves;
}

/** `bytes` of a buffer from `at`, itself where that is aligned to `width` bytes, else copied to where it is. */
function aligned(source: Uint8Array, at: number, bytes: number, width: number): Uint8Array {
  const run = source.subarray(at, at + bytes);
  if (run.byteOffset % width === 0) return run;
  shifted.set(run);
  return shifted.subarray(0, bytes);
}

/**
 * Elements `first` … `first + count - 1` of `source` as float32, rounded to nearest even where they are F64.
 * What it returns is the source's own memory or a scratch that the next call overwrites: read it at once, and do not
 * write to it.
 * @param count at most `RUN`.
 */
export function loadRun(dtype: FloatDType, source: Uint8Array, first: number, count: number): Float32Array {
  switch (dtype) {
    case "F32": {
      const { buffer, byteOffset } = aligned(source, 4 * first, 4 * count, 4);
      return new Float32Array(buffer, byteOffset, count);
    }
    case "F64": {
      const { buffer, byteOffset } = aligned(source, 8 * first, 8 * count, 8);
      return narrow(new Float64Array(buffer, byteOffset, count));
    }
    case "F16": {
      const { buffer, byteOffset } = aligned(source, 2 * first, 2 * count, 2);
      const from = new Uint16Array(buffer, byteOffset, count);
      const table = halfTable();
      for (let i = 0; i < count; i++) widenedBits[i] = table[from[i]!]!;
      return widened.subarray(0, count);
    }
    case "BF16": {
      const { buffer, byteOffset } = aligned(source, 2 * first, 2 * count, 2);
      const from = new Uint16Array(buffer, byteOffset, count);
      for (let i = 0; i < count; i++) widenedBits[i] = bf16ToF32Bits(from[i]!);
      return widened.subarray(0, count);
    }
  }
}

/** Elements `first` … `first + count - 1` of `source` as float64, exactly, in the beginning of `values`. */
export function loadDoubleRun(
  dtype: FloatDType,
  source: Uint8Array,
  first: number,
  count: number,
  values: Float64Array,
): Float64Array {
  if (dtype === "F64") {
    const { buffer, byteOffset } = aligned(source, 8 * first, 8 * count, 8);
    values.set(new Float64Array(buffer, byteOffset, count));
  } else {
    values.set(loadRun(dtype, source, first, count));
  }
  return values.subarray(0, count);
}

function narrow(from: Float64Array): Float32Array {
  const words = new Uint32Array(from.buffer, from.byteOffset, 2 * from.length);
  for (let i = 0; i < from.length; i++) {
    const value = from[i]!;
    widened[i] = value;
    // What a conversion makes of a NaN's payload is the engine's choice: say it, so that payloads are the same everywhere.
    if (Number.isNaN(value)) {
      const high = words[2 * i + 1]!;
      const mantissa = ((high & 0xfffff) << 3) | (words[2 * i]! >>> 29);
      widenedBits[i] = (high & 0x80000000) | 0x7fc00000 | mantissa;
    }
  }
  return widened.subarray(0, from.length);
}

/**
 * Writes float32 values as elements `first` … of `target`; narrowing rounds to nearest even and overflows to infinity.
 * @param values at most `RUN` of them.
 */
export function storeRun(values: Float32Array, dtype: FloatDType, target: Uint8Array, first: number): void {
  const count = values.length;
  if (dtype === "F32") {
    target.set(new Uint8Array(values.buffer, values.byteOffset, 4 * count), 4 * first);
    return;
  }
  const width = dtype === "F64" ? 8 : 2;
  const direct = (target.byteOffset + width * first) % width === 0;
  const out = direct
    ? target.subarray(width * first, width * (first + count))
    : narrowed.subarray(0, width * count);
  if (dtype === "F64") {
    new Float64Array(out.buffer, out.byteOffset, count).set(values);
  } else {
    const bits = new Int32Array(values.buffer, values.byteOffset, count);
    const to = new Uint16Array(out.buffer, out.byteOffset, count);
    if (dtype === "F16") for (let i = 0; i < count; i++) to[i] = f32ToF16Bits(bits[i]!);
    else for (let i = 0; i < count; i++) to[i] = f32ToBf16Bits(bits[i]!);
  }
  if (!direct) target.set(out, width * first);
}

/** How many of them are NaN or infinite. */
export function countNonFinite(values: Float32Array): number {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  let count = 0;
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i]! & 0x7f800000) === 0x7f800000) count++;
  }
  return count;
}
