import { countNonFinite, loadRun, RUN, storeRun } from "../codec/float-run.js";
import { DTYPE_BITS, type FloatDType } from "../dtype.js";
import { FloatValues } from "./float-values.js";

// Error feedback: what a round's payload left out is added to the next round's values. docs/codecs.md, "Error feedback".

const values = new FloatValues();
const sums = new Float32Array(RUN);
const sumBytes = new Uint8Array(sums.buffer);

/**
 * Adds residuals to the elements of a chunk: c = f32(x + r). An element whose c is not finite as its dtype has it stays as
 * it is, bit for bit, and its residual is given up.
 * @param residuals the float32 residuals r; then the sums c.
 * @param corrected takes c in `dtype`, rounded to nearest even; of F32 it may be `residuals` itself.
 */
export function addResiduals(
  dtype: FloatDType,
  elements: number,
  source: Uint8Array,
  residuals: Uint8Array,
  corrected: Uint8Array,
): void {
  for (let done = 0; done < elements; done += RUN) {
    const count = Math.min(RUN, elements - done);
    const place = residuals.subarray(4 * done, 4 * (done + count));
    const xs = values.load(dtype, source, done, count);
    sumBytes.set(place);
    for (let i = 0; i < count; i++) sums[i] = xs[i]! + sums[i]!;
    place.set(sumBytes.subarray(0, 4 * count));
    storeRun(sums.subarray(0, count), dtype, corrected, done);
    if (countNonFinite(loadRun(dtype, corrected, done, count)) > 0)
      keepOriginals(dtype, xs, source, corrected, done);
  }
}

/** Puts the originals in the place of what is not finite, in both. */
function keepOriginals(
  dtype: FloatDType,
  xs: Float64Array,
  source: Uint8Array,
  corrected: Uint8Array,
  first: number,
): void {
  const width = DTYPE_BITS[dtype] / 8;
  const finite = Array.from(loadRun(dtype, corrected, first, xs.length), Number.isFinite);
  finite.forEach((is, i) => {
    if (is) return;
    const at = width * (first + i);
    corrected.set(source.subarray(at, at + width), at);
  });
}

/**
 * What a payload left out: f32(c − y), with y what it decodes to; zero where that is not finite.
 * @param corrected the sums c of `addResiduals`; then the remainders.
 * @param decoded what the payload decodes to, in `dtype`.
 */
export function takeRemainders(
  dtype: FloatDType,
  elements: number,
  decoded: Uint8Array,
  corrected: Uint8Array,
): void {
  for (let done = 0; done < elements; done += RUN) {
    const count = Math.min(RUN, elements - done);
    const place = corrected.subarray(4 * done, 4 * (done + count));
    const ys = values.load(dtype, decoded, done, count);
    sumBytes.set(place);
    for (let i = 0; i < count; i++) {
      const remainder = Math.fround(sums[i]! - ys[i]!);
      sums[i] = Number.isFinite(remainder) ? remainder : 0;
    }
    place.set(sumBytes.subarray(0, 4 * count));
  }
}
