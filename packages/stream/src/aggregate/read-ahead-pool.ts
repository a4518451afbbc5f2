import { BufferPool, type Loan, type SlabAlignment } from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import { READ_AHEAD_BYTES } from "../source/source.js";

/**
 * What sources that are read in turn are lent: what they read ahead of small tensors stays with each of them until it is
 * its turn again, and all of it together takes no more than one source alone would. Larger loans, which come back before the
 * next source is asked, are another pool's.
 */
export class ReadAheadPool extends BufferPool {
  /** Lends what is larger than a source's part. */
  beyond: BufferPool | undefined;

  constructor(
    private readonly sources: number,
    alignment: SlabAlignment | undefined,
  ) {
    super(Math.floor(READ_AHEAD_BYTES / sources), alignment, discardSlab);
  }

  /** What it holds at most: a part for each source, and two for the one that is being read. */
  get mostBytes(): number {
    return (this.sources + 2) * this.slabBytes;
  }

  override get largestLoan(): number {
    return Math.max(this.slabBytes, this.beyond?.largestLoan ?? 0);
  }

  override lend(bytes: number): Loan {
    return bytes > this.slabBytes && this.beyond ? this.beyond.lend(bytes) : super.lend(bytes);
  }
}
