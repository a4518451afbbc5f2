import {
  BufferPool,
  type ChunkPlan,
  type CodecRegistry,
  type Manifest,
  type SlabAlignment,
} from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import { READ_AHEAD_BYTES, type SourceMemory } from "../source/source.js";

/** What a sender's chunks are read, encoded and packed into: the same memory for every attempt at a transfer. */
export class OutgoingPools {
  /** Lends what the source is read into, and has room for any chunk, or for any loan that the source makes. */
  readonly source: BufferPool;
  readonly payloads: BufferPool;
  readonly packed: BufferPool;

  constructor(
    { tensors }: Manifest,
    plan: ChunkPlan,
    registry: CodecRegistry,
    alignment: SlabAlignment | undefined,
    memory?: SourceMemory | undefined,
  ) {
    let largest = 1;
    tensors.forEach(({ codec, dtype }, i) => {
      if (codec.name === "none" || plan.range(i).count === 0) return;
      const { elements } = plan.chunk(plan.range(i).first);
      largest = Math.max(largest, registry.get(codec.name).payloadBytes(codec, dtype, elements));
    });
    const sourceBytes = memory?.loans?.slabBytes ?? Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES);
    this.source = new BufferPool(sourceBytes, alignment, discardSlab);
    this.payloads = new BufferPool(largest, alignment, discardSlab);
    this.packed = new BufferPool(Math.max(largest, plan.maxChunkBytes), alignment, discardSlab);
  }

  get loans(): number {
    return this.source.loans + this.payloads.loans + this.packed.loans;
  }
}
