import { countNonFinite, loadRun, RUN, storeRun } from "../codec/float-run.js";
import { DTYPE_BITS, type FloatDType } from "../dtype.js";
import { FloatValues } from "./float-values.js";

// Error feedback: what a round's payload left out is added to the next round's values. docs/codecs.md, "Error feedback".

const values = new FloatValues();

/** Elements as numbers of which nothing is rounded. They may be the source's own memory: for reading. */
function loadExactly(
  dtype: FloatDType,
  source: Uint8Array,
  first: number,
  count: number,
): Float32Array | Float64Array {
  return dtype === "F64" ? values.load(dtype, source, first, count) : loadRun(dtype, source, first, count);
}

/**
 * Adds residuals to the elements of a chunk: c = f32(x + r). An element whose c is not finite as its dtype has it stays as
 * it is, bit for bit; its residual is lost where c is not finite either.
 * @param residuals r; then the sums c.
 * @param corrected takes c in `dtype`, rounded to nearest even; of F32 it may be the memory of `residuals`.
 * @example
 * // What `float16` leaves out of a value is added to it the next time.
 * const [source, residuals, corrected] = [bytesOf(Float32Array.of(1.0001)), new Float32Array(1), new Float32Array(1)];
 * addResiduals("F32", 1, source, residuals, bytesOf(corrected));
 * takeRemainders("F32", 1, bytesOf(Float32Array.of(1)), residuals);
 * console.log(residuals[0]?.toFixed(4)); // 0.0001
 */
export function addResiduals(
  dtype: FloatDType,
  elements: number,
  source: Uint8Array,
  residuals: Float32Array,
  corrected: Uint8Array,
): void {
  for (let done = 0; done < elements; done += RUN) {
    const count = Math.min(RUN, elements - done);
    const sums = residuals.subarray(done, done + count);
    addTo(sums, loadExactly(dtype, source, done, count));
    if (sums.byteOffset !== corrected.byteOffset + 4 * done || sums.buffer !== corrected.buffer) {
      storeRun(sums, dtype, corrected, done);
    }
    if (countNonFinite(loadRun(dtype, corrected, done, count)) > 0) {
      keepOriginals(dtype, source, corrected, done, count);
    }
  }
}

function addTo(sums: Float32Array, xs: Float32Array | Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] = xs[i]! + sums[i]!;
}

/** Puts the originals in the place of what is not finite. */
function keepOriginals(
  dtype: FloatDType,
  source: Uint8Array,
  corrected: Uint8Array,
  first: number,
  count: number,
): void {
  const width = DTYPE_BITS[dtype] / 8;
  const finite = Array.from(loadRun(dtype, corrected, first, count), Number.isFinite);
  finite.forEach((is, i) => {
    if (is) return;
    const at = width * (first + i);
    corrected.set(source.subarray(at, at + width), at);
  });
}

/**
 * What a payload left out: f32(c − y), with y what it decodes to; zero where that is not finite.
 * @param sums c, as `addResiduals` left it; then the remainders.
 * @param decoded what the payload decodes to, in `dtype`.
 */
export function takeRemainders(
  dtype: FloatDType,
  elements: number,
  decoded: Uint8Array,
  sums: Float32Array,
): void {
  for (let done = 0; done < elements; done += RUN) {
    const count = Math.min(RUN, elements - done);
    takeFrom(sums.subarray(done, done + count), loadExactly(dtype, decoded, done, count));
  }
}

function takeFrom(sums: Float32Array, ys: Float32Array | Float64Array): void {
  for (let i = 0; i < sums.length; i++) {
    const remainder = Math.fround(sums[i]! - ys[i]!);
    sums[i] = remainder - remainder === 0 ? remainder : 0;
  }
}
