import { type Chunk, type ChunkPlan, Packing } from "@tensorwire/core";
import type { ArtifactIndex } from "../artifact/contents.js";
import { slabsAhead } from "./byte-reader.js";
import { DIRECT_READ_BYTES } from "./file-reader.js";
import { READ_AHEAD_BYTES, type SourceMemory } from "./source.js";

/** What an artifact's chunks take of memory, which its index says before any is read. */
export class ArtifactMemory {
  /** Of a slab that is lent to several readers: it has room for the largest payload as it lies in the file. */
  readonly sharedSlabBytes: number;
  /** Of the largest payload that is read into a reader's own pool, or unpacked there. */
  readonly #largestOwn: number;
  readonly #largest: number;

  constructor(private readonly index: Pick<ArtifactIndex, "chunks" | "plan">) {
    const { chunks, plan } = index;
    let [shared, own, largest] = [0, 0, 0];
    for (let i = 0; i < plan.chunks; i++) shared = Math.max(shared, chunks.packedBytes(i));
    // What is shared is read on its own, and not ahead.
    this.sharedSlabBytes = Math.max(shared, 2 * DIRECT_READ_BYTES);
    for (let i = 0; i < plan.chunks; i++) {
      const { payloadBytes, packing } = chunks.entry(i);
      largest = Math.max(largest, payloadBytes);
      if (!this.isShared(i) || packing !== Packing.RAW) own = Math.max(own, payloadBytes);
    }
    this.#largestOwn = own;
    this.#largest = largest;
  }

  /** Whether it fills more than half of a slab, and so has one for itself: no other chunk keeps it from being given back. */
  isShared(ordinal: number): boolean {
    return this.index.chunks.packedBytes(ordinal) > this.sharedSlabBytes / 2;
  }

  /** Of a reader that has it for itself. */
  alone(): SourceMemory {
    const slabBytes = Math.max(this.#largest, READ_AHEAD_BYTES);
    const of = ({ ordinal }: Chunk): number => this.index.chunks.entry(ordinal).payloadBytes;
    return { slabs: 1, bytes: 0, loans: { slabBytes, of } };
  }

  /** Of one of several, which share large chunks. @param keep Told of how many slabs it has reserved of those. */
  among(keep: (slabs: number) => void): SourceMemory {
    const { chunks } = this.index;
    const own = this.#largestOwn;
    const lent = ({ ordinal }: Chunk): number => (this.isShared(ordinal) ? chunks.packedBytes(ordinal) : 0);
    const read = ({ ordinal }: Chunk): number =>
      this.isShared(ordinal) ? 0 : chunks.entry(ordinal).payloadBytes;
    return {
      slabs: own > 0 ? 1 : 0,
      bytes: 0,
      loans: { slabBytes: Math.max(own, DIRECT_READ_BYTES), of: read },
      lent: { slabBytes: this.sharedSlabBytes, of: lent, keep },
    };
  }

  /** Of a reader that fetches ahead, in slabs that have room for any chunk. */
  ahead({ maxChunkBytes }: ChunkPlan, readAheadBytes: number): SourceMemory {
    return { slabs: slabsAhead(readAheadBytes, Math.max(maxChunkBytes, READ_AHEAD_BYTES)), bytes: 0 };
  }
}
