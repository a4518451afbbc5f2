import type { FloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { FloatValues } from "../fidelity/float-values.js";
import { storeSums } from "./rounded-sums.js";

/** Values that are sorted at once: few enough for the caches, many enough that calls cost nothing. */
const SORTED_VALUES = 64 * 1024;
const MOST_ELEMENTS = 1024;
const LEAST_ELEMENTS = 64;

/**
 * Some models' elements at one place of a tensor, from the least to the greatest, and the mean of those in the
 * middle.
 * @example
 * const ranked = new RankedMeans(3, 1);
 * const models = [[1, 10], [2, 20], [300, 30]].map((values) => bytesOf(Float32Array.from(values)));
 * const median = new Float32Array(2);
 * ranked.combine("F32", 2, models, [1, 1, 1], bytesOf(median));
 * console.log(median.join(" ")); // 2 20
 */
export class RankedMeans {
  /** A row a model: as many elements of each as are sorted at once. */
  readonly #rows: Float64Array[];
  readonly #sums: Float64Array;
  readonly #exchanges: readonly (readonly [number, number])[];
  readonly #values = new FloatValues();

  /**
   * @param models how many there are, at least one.
   * @param dropped how many are left out at either end.
   */
  constructor(
    models: number,
    private readonly dropped: number,
  ) {
    if (!(models - 2 * dropped >= 1)) {
      throw new TensorwireError("INTERNAL", `of ${models} models ${dropped} left out at either end`);
    }
    const elements = Math.max(LEAST_ELEMENTS, Math.min(MOST_ELEMENTS, Math.floor(SORTED_VALUES / models)));
    this.#rows = Array.from({ length: models }, () => new Float64Array(elements));
    this.#sums = new Float64Array(elements);
    this.#exchanges = mergeExchange(models);
  }

  /** Bytes that it takes. */
  get bytes(): number {
    return this.#sums.byteLength * (this.#rows.length + 1);
  }

  /**
   * Writes the mean of the middle, in binary64 and summed from the least on, rounded to `dtype`.
   * @param sources each model's elements, of `dtype`.
   * @param factors what each model's are multiplied by first.
   */
  combine(
    dtype: FloatDType,
    elements: number,
    sources: readonly Uint8Array[],
    factors: readonly number[],
    target: Uint8Array,
  ): void {
    const most = this.#sums.length;
    for (let first = 0; first < elements; first += most) {
      const count = Math.min(most, elements - first);
      sources.forEach((source, i) => {
        const row = this.#rows[i]!;
        row.set(this.#values.load(dtype, source, first, count));
        const factor = factors[i]!;
        if (factor !== 1) for (let at = 0; at < count; at++) row[at]! *= factor;
      });
      this.#sort(count);
      this.#mean(count);
      storeSums(this.#sums, dtype, count, target, first);
    }
  }

  // Row by row without a branch: a comparison of values that nobody can foretell would cost more than the exchange.
  #sort(count: number): void {
    for (const [low, high] of this.#exchanges) {
      const [lower, upper] = [this.#rows[low]!, this.#rows[high]!];
      for (let i = 0; i < count; i++) {
        const [a, b] = [lower[i]!, upper[i]!];
        lower[i] = Math.min(a, b);
        upper[i] = Math.max(a, b);
      }
    }
  }

  #mean(count: number): void {
    const sums = this.#sums;
    const middle = this.#rows.slice(this.dropped, this.#rows.length - this.dropped);
    sums.set(middle[0]!);
    if (middle.length === 1) return;
    for (const row of middle.slice(1)) for (let i = 0; i < count; i++) sums[i]! += row[i]!;
    const { length } = middle;
    for (let i = 0; i < count; i++) {
      const sum = sums[i]!;
      // Of finite values near the end of binary64 only the sum is beyond it.
      sums[i] = Number.isFinite(sum) ? sum / length : middle.reduce((all, row) => all + row[i]! / length, 0);
    }
  }
}

/** Batcher's merge exchange: pairs of places which, each brought into order in turn, sort any values (Knuth, 5.2.2 M). */
export function mergeExchange(places: number): [number, number][] {
  const pairs: [number, number][] = [];
  const top = 2 ** Math.max(0, Math.ceil(Math.log2(places)) - 1);
  for (let p = places > 1 ? top : 0; p >= 1; p = Math.floor(p / 2)) {
    let [q, r, d] = [top, 0, p];
    for (;;) {
      for (let i = 0; i < places - d; i++) if ((i & p) === r) pairs.push([i, i + d]);
      if (q === p) break;
      [d, q, r] = [q - p, q / 2, p];
    }
  }
  return pairs;
}
