// Values of one block of at most 4096 elements, and their halves: the upper one is the key.
const scaled = new Float32Array(4096);
const scaledHalves = new Uint16Array(scaled.buffer);

/**
 * Finds, for each value, which of the levels between ascending thresholds it falls in. The top 16 bits of a float32
 * (sign, exponent and 7 bits of its fraction) say it to within one threshold, so that a look-up and one comparison
 * replace a search: code = codes[base[key] + (x > thresholds[base[key]])].
 * @example
 * const signs = new LevelSearch([0], [0, 1], 0);
 * console.log(signs instanceof LevelSearch); // true
 */
export class LevelSearch {
  readonly #thresholds: Float32Array;
  readonly #codes: Uint8Array;
  readonly #nanRank: number;
  #base: Uint8Array | undefined;

  /**
   * @param thresholds ascending float32 values; a value's rank is the number of them that it is greater than.
   * @param codes the code of each rank: one more than there are thresholds.
   * @param nanRank the rank of a NaN.
   */
  constructor(thresholds: readonly number[], codes: readonly number[], nanRank: number) {
    this.#thresholds = Float32Array.from([...thresholds, Number.POSITIVE_INFINITY]);
    this.#codes = Uint8Array.from(codes);
    this.#nanRank = nanRank;
  }

  /** Writes the codes of `values[i] * inverse`, rounded to float32, for i from `begin` to `end`. */
  search(values: Float32Array, inverse: number, begin: number, end: number, codes: Uint8Array): void {
    // Infinite where the block's largest magnitude is zero or so small that its reciprocal overflows. The product is
    // then NaN for zeros and infinite for all else; the table below need not know infinities.
    if (inverse === Number.POSITIVE_INFINITY) {
      const nan = this.#codes[this.#nanRank]!;
      const top = this.#codes[this.#codes.length - 1]!;
      const bottom = this.#codes[0]!;
      for (let i = begin; i < end; i++) {
        const value = values[i]!;
        codes[i] = value > 0 ? top : value < 0 ? bottom : nan;
      }
      return;
    }
    const base = (this.#base ??= this.#ranks());
    const thresholds = this.#thresholds;
    const byRank = this.#codes;
    for (let i = begin; i < end; i++) scaled[i - begin] = values[i]! * inverse;
    for (let i = begin; i < end; i++) {
      const rank = base[scaledHalves[2 * (i - begin) + 1]!]!;
      codes[i] = byRank[scaled[i - begin]! > thresholds[rank]! ? rank + 1 : rank]!;
    }
  }

  /** Rank of the least value of each key. A NaN's key gives the NaN's rank, and no NaN is greater than a threshold. */
  #ranks(): Uint8Array {
    const ranks = new Uint8Array(65536);
    const words = new Uint32Array(1);
    const value = new Float32Array(words.buffer);
    for (let key = 0; key < 65536; key++) {
      if ((key & 0x7f80) === 0x7f80) {
        ranks[key] = this.#nanRank;
        continue;
      }
      // The least value of a negative key has all its lower bits set.
      words[0] = key < 0x8000 ? key << 16 : (key << 16) | 0xffff;
      let rank = 0;
      while (value[0]! > this.#thresholds[rank]!) rank++;
      words[0] = key < 0x8000 ? (key << 16) | 0xffff : key << 16;
      if (value[0]! > this.#thresholds[Math.min(rank + 1, this.#thresholds.length - 1)]!) {
        throw new RangeError("two thresholds share the top 16 bits of their floats");
      }
      ranks[key] = rank;
    }
    return ranks;
  }
}
