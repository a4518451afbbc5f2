import { loadRun, RUN } from "../codec/float-run.js";
import type { FloatDType } from "../dtype.js";

/** Elements as binary64, whatever float dtype they have: nothing is rounded. Each object has a scratch of its own. */
export class FloatValues {
  readonly #values = new Float64Array(RUN);
  readonly #bytes = new Uint8Array(this.#values.buffer);

  /**
   * Elements `first` … `first + count - 1` of `source`, in memory that the next call overwrites.
   * @param count at most `RUN`.
   */
  load(dtype: FloatDType, source: Uint8Array, first: number, count: number): Float64Array {
    if (dtype === "F64") this.#bytes.set(source.subarray(8 * first, 8 * (first + count)));
    else this.#values.set(loadRun(dtype, source, first, count));
    return this.#values.subarray(0, count);
  }
}
