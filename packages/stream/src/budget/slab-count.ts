import { loanBytes } from "@tensorwire/core";

/** A loan that a pool makes for a chunk, and what the chunk counts in a window. */
export interface ChunkLoan {
  readonly counted: number;
  readonly lent: number;
}

// What is noted of a plan takes 12 bytes a chunk, for a moment.
const MAX_CHUNKS = 2 ** 20;

/**
 * How many slabs of a pool a window of chunks lies in. A full chunk fills one, small ones share one, and what is left of a
 * slab that the next chunk does not fit in stays unused: so it depends on the sizes of chunks that follow one another.
 */
export class SlabCount {
  /** Counted bytes before each chunk, and after the last. */
  readonly #before: Float64Array;
  readonly #slab: Int32Array;
  readonly #shared: boolean;
  /** Of a plan of more chunks than are noted: what a counted byte takes at most. */
  #largestRatio = 0;

  constructor(
    loans: Iterable<ChunkLoan>,
    chunks: number,
    readonly slabBytes: number,
  ) {
    const noted = chunks <= MAX_CHUNKS ? chunks : 0;
    this.#before = new Float64Array(noted + 1);
    this.#slab = new Int32Array(noted);
    let [slab, used, shared, i] = [-1, 0, false, 0];
    for (const { counted, lent } of loans) {
      // What is not lent takes no place.
      if (lent > 0 && slab >= 0 && used + lent <= slabBytes) shared = true;
      else if (lent > 0) [slab, used] = [slab + 1, 0];
      used += loanBytes(lent);
      if (noted) {
        this.#before[i + 1] = this.#before[i]! + counted;
        this.#slab[i] = slab;
      } else {
        this.#largestRatio = Math.max(this.#largestRatio, loanBytes(lent) / counted);
      }
      i++;
    }
    this.#shared = shared;
  }

  /** The most slabs that consecutive chunks of at most so many counted bytes lie in. */
  within(bytes: number): number {
    if (bytes === 0) return 0;
    // Of two slabs that follow one another, more than one is used: the first of the second did not fit in the first.
    if (this.#largestRatio) return Math.ceil((2 * bytes * this.#largestRatio) / this.slabBytes) + 2;
    const [before, slab] = [this.#before, this.#slab];
    let most = 0;
    for (let [first, last] = [0, 0]; last < slab.length; last++) {
      while (before[last + 1]! - before[first]! > bytes) first++;
      if (first <= last) most = Math.max(most, slab[last]! - slab[first]! + 1);
    }
    // A pool does not begin a slab where this count does: that is one more, at most.
    return Math.min(this.#shared ? most + 1 : most, (slab.at(-1) ?? -1) + 1);
  }
}
