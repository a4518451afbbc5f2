import { type DType, isFloatDType } from "../dtype.js";
import { loadRun, RUN } from "./float-run.js";

/** An element that a codec cannot carry. */
export interface UncarriedValue {
  /** Its place among the chunk's elements. */
  readonly index: number;
  /** What it is. */
  readonly value: number;
}

/**
 * The element that keeps a codec from carrying a chunk: the first one that is NaN, infinite or beyond binary32; where
 * all are finite, the first one of the largest magnitude, which is what `bfloat16` rounds to infinity and `linearN` has no
 * step for. `undefined` of a chunk without elements, and of a dtype that no codec of this library computes with.
 * @example
 * console.log(uncarriedValue("F32", 3, bytesOf(Float32Array.of(1, Number.NaN, 2)))?.index); // 1
 */
export function uncarriedValue(
  dtype: DType,
  elements: number,
  source: Uint8Array,
): UncarriedValue | undefined {
  if (!isFloatDType(dtype)) return undefined;
  let largest: UncarriedValue | undefined;
  for (let first = 0; first < elements; first += RUN) {
    const run = loadRun(dtype, source, first, Math.min(RUN, elements - first));
    for (let i = 0; i < run.length; i++) {
      const value = run[i]!;
      if (!Number.isFinite(value)) return { index: first + i, value: own(dtype, source, first + i, value) };
      if (largest === undefined || Math.abs(value) > Math.abs(largest.value)) {
        largest = { index: first + i, value };
      }
    }
  }
  return largest;
}

/** What is finite as a binary64 is said as that, and not as the infinity that a binary32 makes of it. */
function own(dtype: DType, source: Uint8Array, index: number, value: number): number {
  if (dtype !== "F64") return value;
  return new DataView(source.buffer, source.byteOffset, source.length).getFloat64(index * 8, true);
}
