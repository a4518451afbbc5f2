import { RUN, storeRun } from "../codec/float-run.js";
import type { FloatDType } from "../dtype.js";

const narrowed = new Float32Array(RUN);

/**
 * Writes the first `elements` sums as elements of `dtype`, rounded to nearest even: to float32 first, where that is not what
 * they have or get.
 * @param target takes them from element `first` on; it may be the sums' own memory where nothing is to be rounded.
 * @example
 * const half = new Uint16Array(2);
 * storeSums(Float32Array.of(1, 65_000), "F16", 2, bytesOf(half));
 * console.log(half[0]?.toString(16)); // 3c00
 */
export function storeSums(
  sums: Float32Array | Float64Array,
  dtype: FloatDType,
  elements: number,
  target: Uint8Array,
  first = 0,
): void {
  if (dtype === "F64" && sums instanceof Float64Array) {
    target.set(new Uint8Array(sums.buffer, sums.byteOffset, 8 * elements), 8 * first);
    return;
  }
  for (let done = 0; done < elements; done += RUN) {
    const run = sums.subarray(done, Math.min(done + RUN, elements));
    if (run instanceof Float32Array) {
      storeRun(run, dtype, target, first + done);
    } else {
      narrowed.set(run);
      storeRun(narrowed.subarray(0, run.length), dtype, target, first + done);
    }
  }
}
