import { loadDoubleRun, loadRun, RUN, storeRun } from "../codec/float-run.js";
import type { FloatDType } from "../dtype.js";

/** Elements of a float dtype that an operation takes, from the beginning of `bytes`. */
export interface FloatElements {
  /** Of the elements. */
  readonly dtype: FloatDType;
  /** The elements, little-endian and contiguous. */
  readonly bytes: Uint8Array;
}

// One scratch for all: these are synchronous.
const sums = new Float32Array(RUN);
const doubles = new Float64Array(RUN);
const others = new Float64Array(RUN);
const doubleBytes = new Uint8Array(doubles.buffer);

/**
 * a − b, element by element: in binary64 where both are F64, else in binary32; then as `target` has it. Every step rounds to
 * nearest even; what lies beyond a dtype's range becomes infinite.
 * @example
 * const run = (...values: number[]) => ({ dtype: "F32", bytes: bytesOf(Float32Array.from(values)) }) as const;
 * const target = run(0);
 * subtractElements(run(3), run(1), 1, target);
 * addElements(target, run(1), 1, target);
 * console.log(new Float32Array(target.bytes.buffer)[0]); // 3
 */
export function subtractElements(
  a: FloatElements,
  b: FloatElements,
  elements: number,
  target: FloatElements,
): void {
  combine(a, b, elements, target, -1);
}

/** a + b, in the same way. */
export function addElements(
  a: FloatElements,
  b: FloatElements,
  elements: number,
  target: FloatElements,
): void {
  combine(a, b, elements, target, 1);
}

function combine(
  a: FloatElements,
  b: FloatElements,
  elements: number,
  target: FloatElements,
  sign: 1 | -1,
): void {
  const wide = a.dtype === "F64" && b.dtype === "F64" && target.dtype === "F64";
  for (let first = 0; first < elements; first += RUN) {
    const count = Math.min(RUN, elements - first);
    if (wide) {
      const xs = loadDoubleRun("F64", a.bytes, first, count, doubles);
      addTo(xs, loadDoubleRun("F64", b.bytes, first, count, others), sign);
      target.bytes.set(doubleBytes.subarray(0, 8 * count), 8 * first);
    } else {
      // Copied: what `loadRun` returns is overwritten by its next call.
      const xs = sums.subarray(0, count);
      xs.set(loadRun(a.dtype, a.bytes, first, count));
      addTo(xs, loadRun(b.dtype, b.bytes, first, count), sign);
      storeRun(xs, target.dtype, target.bytes, first);
    }
  }
}

// A sum of two binary32 that is rounded to binary64 first, as here, and then to binary32 is the sum that binary32 has.
function addTo<T extends Float32Array | Float64Array>(xs: T, ys: T, sign: 1 | -1): void {
  if (sign > 0) for (let i = 0; i < xs.length; i++) xs[i] = xs[i]! + ys[i]!;
  else for (let i = 0; i < xs.length; i++) xs[i] = xs[i]! - ys[i]!;
}
