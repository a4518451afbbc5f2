import type {
  BufferPool,
  Chunk,
  ChunkPlan,
  ChunkRange,
  ChunkRecord,
  Loan,
  Manifest,
  ModelInfo,
} from "@tensorwire/core";

/** A source may take this much from the pool at once, to read many small tensors in one piece. */
export const READ_AHEAD_BYTES = 1024 * 1024;

/** What a source takes of memory while it is read, besides the loans that it gives. */
export interface SourceMemory {
  /** Slabs of the pool that it is given, each with room for any chunk: what a chunk is made of. */
  readonly slabs: number;
  /** Of those, how many stay lent from one chunk to the next: of many sources that are read in turn, each has its own. Default 0. */
  readonly kept?: number | undefined;
  /** Bytes of its own. */
  readonly bytes: number;
  /** Its chunks are lent out of those, and take no slabs. Default false. */
  readonly lends?: boolean | undefined;
  /** What it takes of the pool for each chunk. Default: as many bytes as the chunk has, in slabs that have room for any. */
  readonly loans?: ChunkLoans | undefined;
  /** Memory of its own that it lends chunks out of; what several transfers have in hand lies there once. */
  readonly lent?: (ChunkLoans & KeptSlabs) | undefined;
}

/** Loans that are made for chunks as they are read. */
export interface ChunkLoans {
  /** Bytes of a slab. */
  readonly slabBytes: number;
  /** Bytes that are lent for a chunk, at most: 0 where that is none of these. */
  of(chunk: Chunk): number;
}

/** Slabs that are there for as long as they are reserved. */
export interface KeptSlabs {
  /** From now on so many are reserved by this source's reader. */
  keep(slabs: number): void;
}

/**
 * A model to send, chunk by chunk. Chunks are asked for in ascending order, one at a time; after an interruption they can be
 * asked for again, from any one on.
 */
export interface ModelSource {
  /** For messages: a path, or what kind of source it is. */
  readonly name: string;
  /**
   * The version token, known once it is open: the same as long as the source is in the same state, and different after any
   * change. Of a file: its device, inode, size and times, hashed. None where nothing vouches for the state: then chunks that
   * a receiver holds are made again and compared.
   */
  readonly version?: string | undefined;
  /** It can be read once, in ascending order: an interrupted transfer of it cannot go on. Default false. */
  readonly oneShot?: boolean | undefined;
  /** The only chunk size that it can be read in, where there is one. */
  readonly chunkBytes?: number | undefined;
  /**
   * Whether all values of its tensors of floats are finite, where that is known once it is open: then nobody who has to know
   * looks for himself.
   */
  readonly finite?: boolean | undefined;
  /** What budgets count, once it is open. Default: one slab, for what is read ahead. */
  memory?(plan: ChunkPlan): SourceMemory;
  /** Validates what can be validated before any data, and says what the model is. Called once. */
  open(): Promise<ModelInfo>;
  /**
   * The chunks that will be asked for, as ascending runs: said each time a receiver has said what it wants, before the first
   * read. For sources that fetch ahead.
   */
  want?(runs: readonly ChunkRange[]): void;
  /**
   * The chunk's bytes: the source's own memory, or a loan from `pool`. Unchanged until released.
   * @throws TensorwireError `SOURCE_READ`, `SOURCE_MISMATCH`, `SOURCE_CHANGED`.
   */
  read(chunk: Chunk, pool: BufferPool): Loan | Promise<Loan>;
  /** Called when every chunk has been read: the last chance to notice that the model changed meanwhile. */
  verify?(): Promise<void>;
  /** Frees everything. Called once, also after a failure of `open`. */
  close(): Promise<void>;
}

/** A source that can be read once. */
export interface OneShotSource extends ModelSource {
  readonly oneShot: true;
}

/** A chunk as it travels: its codec's number, payload length and hash, and its packing, where it is packed. */
export type EncodedRecord = Pick<ChunkRecord, "codec" | "payloadBytes" | "hash"> &
  Partial<Pick<ChunkRecord, "packing" | "packedBytes">> & {
    /** Of the unpacked payload, with a manifest of that integrity. */
    readonly sha256?: Uint8Array | undefined;
  };

/** A source whose chunks are encoded already; its manifest, codecs and chunk size are what they are. */
export interface EncodedSource {
  /** For messages. */
  readonly name: string;
  /** As of a `ModelSource`. */
  readonly version?: string | undefined;
  /** As of a `ModelSource`: of what its chunks decode to. */
  readonly finite?: boolean | undefined;
  /** As of a `ModelSource`. */
  memory?(plan: ChunkPlan): SourceMemory;
  /** Validates what can be before any data, and says what the model is. */
  open(): Promise<Manifest>;
  /** As of a `ModelSource`. */
  want?(runs: readonly ChunkRange[]): void;
  /** Finite elements that were clamped when it was encoded. Known once it is open. */
  readonly clamped?: number | undefined;
  /** The chunk's payload, packed as its record says. */
  readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }>;
  /** Called when the last chunk has been read, as of a `ModelSource`. */
  verify?(): Promise<void>;
  /** Frees what it holds. */
  close(): Promise<void>;
}

export function isEncodedSource(source: ModelSource | EncodedSource): source is EncodedSource {
  return "readEncoded" in source;
}

export function isModelSource(value: unknown): value is ModelSource | EncodedSource {
  if (typeof value !== "object" || value === null) return false;
  const { open, close, read, readEncoded } = value as Record<string, unknown>;
  return [open, close, read ?? readEncoded].every((method) => typeof method === "function");
}
