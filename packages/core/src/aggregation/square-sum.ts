import { RUN } from "../codec/float-run.js";
import type { FloatDType } from "../dtype.js";
import { FloatValues } from "../fidelity/float-values.js";

/** What keeps squares of any binary64 within its range. */
const SCALE = 2 ** -540;

/**
 * The L2 norm of elements that come run by run, in binary64. It is the same however a tensor was cut, as long as runs begin
 * at multiples of four elements: each of four sums takes every fourth.
 * @example
 * const sum = new SquareSum();
 * sum.add("F32", 2, bytesOf(Float32Array.of(3, 4)));
 * console.log(sum.norm); // 5
 */
export class SquareSum {
  readonly #sums = new Float64Array(4);
  /** The same of elements times `SCALE`: what counts where squares are beyond binary64. */
  readonly #scaled = new Float64Array(4);
  readonly #values = new FloatValues();

  /** Adds the squares of `elements` elements. @returns Whether all of them are finite. */
  add(dtype: FloatDType, elements: number, source: Uint8Array): boolean {
    let finite = true;
    for (let first = 0; first < elements; first += RUN) {
      const run = this.#values.load(dtype, source, first, Math.min(RUN, elements - first));
      if (!this.#addRun(run)) finite = false;
      if (dtype === "F64") this.#addScaled(run);
    }
    return finite;
  }

  #addRun(run: Float64Array): boolean {
    const sums = this.#sums;
    let [a, b, c, d] = [sums[0]!, sums[1]!, sums[2]!, sums[3]!];
    let different = 0;
    let i = 0;
    for (; i + 4 <= run.length; i += 4) {
      const [w, x, y, z] = [run[i]!, run[i + 1]!, run[i + 2]!, run[i + 3]!];
      a += w * w;
      b += x * x;
      c += y * y;
      d += z * z;
      // NaN as soon as one of them is not finite, and else zero.
      different += w - w + (x - x) + (y - y) + (z - z);
    }
    [sums[0], sums[1], sums[2], sums[3]] = [a, b, c, d];
    for (; i < run.length; i++) {
      const value = run[i]!;
      sums[i & 3]! += value * value;
      different += value - value;
    }
    return different === 0;
  }

  #addScaled(run: Float64Array): void {
    for (let i = 0; i < run.length; i++) this.#scaled[i & 3]! += (run[i]! * SCALE) ** 2;
  }

  /** The root of the sum. */
  get norm(): number {
    const [a, b, c, d] = this.#sums;
    const sum = a! + b! + (c! + d!);
    if (sum < Number.POSITIVE_INFINITY) return Math.sqrt(sum);
    const [e, f, g, h] = this.#scaled;
    return Math.sqrt(e! + f! + (g! + h!)) / SCALE;
  }
}
