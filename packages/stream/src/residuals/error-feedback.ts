import {
  addResiduals,
  BufferPool,
  byteLength,
  bytesOf,
  type Chunk,
  type ChunkPlan,
  type CodecBackend,
  type FloatDType,
  type Loan,
  type Manifest,
  type SlabAlignment,
  takeRemainders,
} from "@tensorwire/core";
import type { ResidualFile } from "./residual-file.js";

export interface FeedbackSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  readonly backend: CodecBackend;
  readonly alignment: SlabAlignment | undefined;
  /** Aborts jobs that wait. */
  readonly jobs: AbortSignal;
}

/** A chunk with its residuals added, to be encoded in the place of the source's. */
export interface CorrectedChunk extends Loan {
  /** The same in float32: what the payload is held against. Where the dtype is F32, the same memory. */
  readonly sums: Float32Array;
}

/** The payload that a corrected chunk was encoded into. */
export interface MadePayload {
  readonly bytes: Uint8Array;
  readonly hash: bigint;
}

/**
 * Carries what payloads leave out to the next transfer: an encoder asks it for the corrected chunk before it encodes, and
 * gives it the payload after that. A chunk whose payload it does not get leaves nothing.
 */
export class ErrorFeedback {
  readonly #sums: BufferPool;
  /** Chunks in the source's dtype: corrected, where that is not F32, and decoded. */
  readonly #chunks: BufferPool;
  /** 1 for each chunk whose residuals are written: another attempt makes the same. */
  readonly #kept: Uint8Array;
  #completing: Promise<void> | undefined;

  constructor(
    private readonly file: ResidualFile,
    private readonly settings: FeedbackSettings,
  ) {
    const { manifest, plan, alignment } = settings;
    let elements = 1;
    let bytes = 1;
    manifest.tensors.forEach((_, i) => {
      const { first, count } = plan.range(i);
      if (count === 0 || !file.has(i)) return;
      const largest = plan.chunk(first);
      elements = Math.max(elements, largest.elements);
      bytes = Math.max(bytes, largest.bytes);
    });
    this.#kept = new Uint8Array(plan.chunks);
    this.#sums = new BufferPool(byteLength("F32", elements), alignment);
    this.#chunks = new BufferPool(bytes, alignment);
  }

  /** What a chunk takes while it is corrected, and what is left of it found: with its residuals, and decoded. */
  get chunkBytes(): number {
    return this.#sums.slabBytes + 2 * this.#chunks.slabBytes;
  }

  get loans(): number {
    return this.#sums.loans + this.#chunks.loans;
  }

  /** Whether the tensor's codec leaves something. */
  concerns(tensor: number): boolean {
    return this.file.has(tensor);
  }

  /** Whether it is known already what the chunk leaves, or that it leaves nothing. */
  has({ tensor, ordinal }: Chunk): boolean {
    return !this.concerns(tensor) || this.#kept[ordinal] === 1;
  }

  /** The chunk with its residuals added. Takes over the source's loan. */
  async correct(chunk: Chunk, source: Loan): Promise<CorrectedChunk> {
    const dtype = this.#dtype(chunk);
    const sums = this.#sums.lend(byteLength("F32", chunk.elements));
    const own = dtype === "F32" ? undefined : this.#chunks.lend(chunk.bytes);
    const corrected = own ?? sums;
    const release = (): void => {
      sums.release();
      own?.release();
    };
    try {
      await this.file.read(chunk, sums.bytes);
      const floats = new Float32Array(sums.bytes.buffer, sums.bytes.byteOffset, chunk.elements);
      addResiduals(dtype, chunk.elements, source.bytes, floats, corrected.bytes);
      return { bytes: corrected.bytes, sums: floats, release };
    } catch (error) {
      release();
      throw error;
    } finally {
      source.release();
    }
  }

  /** Keeps what the payload leaves out of the corrected chunk. Takes over the chunk; the payload stays its owner's. */
  async keep(chunk: Chunk, corrected: CorrectedChunk, { bytes, hash }: MadePayload): Promise<void> {
    const { manifest, backend, jobs } = this.settings;
    const { codec } = manifest.tensors[chunk.tensor]!;
    const dtype = this.#dtype(chunk);
    const { elements } = chunk;
    if (this.#kept[chunk.ordinal] === 1) return corrected.release();
    const decoded = this.#chunks.lend(chunk.bytes);
    try {
      // In the dtype that a receiver has unless it asks for another.
      const job = { codec, dtype, elements, payload: bytes, hash, output: dtype, target: decoded.bytes };
      await backend.decode({ ...job, signal: jobs });
      takeRemainders(dtype, elements, decoded.bytes, corrected.sums);
      await this.file.write(chunk, bytesOf(corrected.sums));
      this.#kept[chunk.ordinal] = 1;
    } finally {
      decoded.release();
      corrected.release();
    }
  }

  #dtype({ tensor }: Chunk): FloatDType {
    return this.settings.manifest.tensors[tensor]!.dtype as FloatDType;
  }

  /** Every chunk is made: the residuals wait, durable, for the peer to confirm. */
  complete(): Promise<void> {
    this.#completing ??= this.file.complete();
    return this.#completing;
  }
}
