import { RUN } from "../codec/float-run.js";
import type { FloatDType } from "../dtype.js";
import { FloatValues } from "./float-values.js";

/** How far a tensor, or several, came from the original x to y. */
export interface ErrorFigures {
  /** Elements that were compared. */
  readonly elements: number;
  /** Elements that are another value. NaN is the same as NaN here, and 0 the same as −0. */
  readonly differing: number;
  /**
   * Elements that are NaN or infinite in one of the two, or in both. No figure below counts them: one NaN would make all
   * of them NaN. Whether they are the same is in `differing`.
   */
  readonly nonFinite: number;
  /** The largest |x − y|. */
  readonly maxAbs: number;
  /** The mean of |x − y|. */
  readonly meanAbs: number;
  /** ‖x − y‖ / ‖x‖: 0 where they are the same, infinite where x alone is zero. */
  readonly relativeL2: number;
  /** x · y / (‖x‖ ‖y‖): 1 where they are the same, 0 where one of them is zero. */
  readonly cosine: number;
  /** 20 log10(‖x‖ / ‖x − y‖): infinite where they are the same. */
  readonly snrDb: number;
}

/** Elements of one of the two sides: `first` and on of these bytes. */
export interface FloatRun {
  /** Of the elements. */
  readonly dtype: FloatDType;
  /** The memory that they lie in. */
  readonly bytes: Uint8Array;
  /** Index of the first one in it. */
  readonly first: number;
}

const originals = new FloatValues();
const others = new FloatValues();

/**
 * Adds up errors as elements go by, in any number of pieces. In binary64, run by run: what is lost in rounding stays far
 * below what is measured, however long the tensor. Squares overflow above 1e154, which only F64 has: figures are then
 * infinite or NaN.
 * @example
 * const run = (...values: number[]) => ({ dtype: "F32", bytes: bytesOf(Float32Array.from(values)), first: 0 }) as const;
 * const sums = new ErrorSums();
 * sums.add(run(1, 2), run(1, 2.5), 2);
 * console.log(sums.figures.differing, sums.figures.maxAbs); // 1 0.5
 */
export class ErrorSums {
  #elements = 0;
  #differing = 0;
  #nonFinite = 0;
  #maxAbs = 0;
  #abs = 0;
  #squares = 0;
  #original = 0;
  #other = 0;
  #product = 0;

  /** `elements` elements of the original, and what they became; the dtypes may differ. */
  add(original: FloatRun, other: FloatRun, elements: number): void {
    for (let done = 0; done < elements; done += RUN) {
      const count = Math.min(RUN, elements - done);
      this.#addRun(
        originals.load(original.dtype, original.bytes, original.first + done, count),
        others.load(other.dtype, other.bytes, other.first + done, count),
      );
    }
    this.#elements += elements;
  }

  #addRun(xs: Float64Array, ys: Float64Array): void {
    let [differing, nonFinite, maxAbs] = [0, 0, this.#maxAbs];
    let [abs, squares, original, other, product] = [0, 0, 0, 0, 0];
    for (let i = 0; i < xs.length; i++) {
      const x = xs[i]!;
      const y = ys[i]!;
      // Finite only where both are.
      if (!Number.isFinite(x - x + (y - y))) {
        nonFinite++;
        if (!Object.is(x, y)) differing++;
        continue;
      }
      const off = Math.abs(x - y);
      if (off !== 0) differing++;
      if (off > maxAbs) maxAbs = off;
      abs += off;
      squares += off * off;
      original += x * x;
      other += y * y;
      product += x * y;
    }
    this.#differing += differing;
    this.#nonFinite += nonFinite;
    this.#maxAbs = maxAbs;
    this.#abs += abs;
    this.#squares += squares;
    this.#original += original;
    this.#other += other;
    this.#product += product;
  }

  /** Adds what others have summed. */
  merge(sums: ErrorSums): void {
    this.#elements += sums.#elements;
    this.#differing += sums.#differing;
    this.#nonFinite += sums.#nonFinite;
    this.#maxAbs = Math.max(this.#maxAbs, sums.#maxAbs);
    this.#abs += sums.#abs;
    this.#squares += sums.#squares;
    this.#original += sums.#original;
    this.#other += sums.#other;
    this.#product += sums.#product;
  }

  /** What was found so far. */
  get figures(): ErrorFigures {
    const finite = this.#elements - this.#nonFinite;
    const same = this.#maxAbs === 0;
    const norms = Math.sqrt(this.#original) * Math.sqrt(this.#other);
    const ratio = this.#squares / this.#original;
    return {
      elements: this.#elements,
      differing: this.#differing,
      nonFinite: this.#nonFinite,
      maxAbs: this.#maxAbs,
      meanAbs: finite ? this.#abs / finite : 0,
      relativeL2: same ? 0 : Math.sqrt(ratio),
      cosine: same ? 1 : norms && this.#product / norms,
      snrDb: same ? Number.POSITIVE_INFINITY : -10 * Math.log10(ratio),
    };
  }
}
