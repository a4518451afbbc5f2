import type { BufferPool, Chunk } from "@tensorwire/core";
import type { ClientModel } from "./client-model.js";

/** A client that is in the aggregate, and how much of it. */
export interface Part {
  readonly client: ClientModel;
  /** Normalized. */
  readonly weight: number;
  /** As it was given, times a power of two: of whole numbers of examples, sums of these are exact, and ties are ties. */
  readonly share: number;
  /** What its values are multiplied by besides, so that its norm is not too large. */
  readonly factor: number;
}

/** How the same chunk of several models becomes one. */
export interface ChunkRule {
  /** Fills `target`, of the chunk's bytes. Nothing is lent when it settles. */
  combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void>;
}
