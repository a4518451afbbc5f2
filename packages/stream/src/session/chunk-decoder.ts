import {
  asTensorwireError,
  BufferPool,
  byteLength,
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  type DType,
  type Loan,
  type Manifest,
  type SlabAlignment,
  TensorwireError,
} from "@tensorwire/core";

/** A chunk whose payload has come; its hash is not verified. Whoever holds it gives the loan back. */
export interface ArrivedChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly loan: Loan;
}

/** A verified chunk for the sink. Whoever holds it calls `release` when the bytes are no longer used. */
export interface DecodedChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly bytes: Uint8Array;
  release(): void;
}

export interface DecoderSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  readonly dtypes: readonly DType[];
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly alignment: SlabAlignment | undefined;
  /** Aborts jobs that wait. */
  readonly jobs: AbortSignal;
}

/** Verifies payloads and decodes them to the dtype that the receiver asked for. */
export class ChunkDecoder {
  readonly #outputs: BufferPool;

  constructor(private readonly settings: DecoderSettings) {
    const { plan, dtypes, alignment } = settings;
    let largest = 1;
    dtypes.forEach((dtype, i) => {
      const { first, count } = plan.range(i);
      if (count > 0) largest = Math.max(largest, byteLength(dtype, plan.chunk(first).elements));
    });
    this.#outputs = new BufferPool(largest, alignment);
  }

  get loans(): number {
    return this.#outputs.loans;
  }

  /** Bytes of the decoded chunk. */
  outputBytes(chunk: Chunk): number {
    return byteLength(this.settings.dtypes[chunk.tensor]!, chunk.elements);
  }

  /** Verifies, and leaves the payload as it travelled. Takes over the loan. */
  async verify({ chunk, record, loan }: ArrivedChunk): Promise<DecodedChunk> {
    try {
      const hash = await this.settings.backend.hash(loan.bytes, this.settings.jobs);
      if (hash !== record.hash)
        throw new TensorwireError("CHUNK_CORRUPT", "the payload does not match its hash");
      return { chunk, record, bytes: loan.bytes, release: () => loan.release() };
    } catch (error) {
      loan.release();
      throw this.#locate(error, chunk);
    }
  }

  /** Verifies, and decodes into `place` where there is one. Takes over the loan. */
  async decode(arrived: ArrivedChunk, place: Uint8Array | undefined): Promise<DecodedChunk> {
    const { chunk, record, loan } = arrived;
    const { manifest, dtypes, registry, backend, jobs } = this.settings;
    const { codec: spec, dtype } = manifest.tensors[chunk.tensor]!;
    const output = dtypes[chunk.tensor]!;
    const exact = registry.byId(record.codec).name === "none";
    if (exact && output === dtype) {
      const decoded = await this.verify(arrived);
      if (!place) return decoded;
      try {
        place.set(decoded.bytes);
      } finally {
        decoded.release();
      }
      return { ...decoded, bytes: place, release() {} };
    }
    const own = place ? undefined : this.#outputs.lend(this.outputBytes(chunk));
    const target = place ?? own!.bytes;
    try {
      await backend.decode({
        codec: exact ? { name: "none" } : spec,
        dtype,
        elements: chunk.elements,
        payload: loan.bytes,
        hash: record.hash,
        output,
        target,
        signal: jobs,
      });
      return { chunk, record, bytes: target, release: () => own?.release() };
    } catch (error) {
      own?.release();
      throw this.#locate(error, chunk);
    } finally {
      loan.release();
    }
  }

  #locate(error: unknown, chunk: Chunk): TensorwireError {
    const known = asTensorwireError(error, "INTERNAL");
    if (known.code === "ABORTED" || known.tensor !== undefined) return known;
    const tensor = this.settings.manifest.tensors[chunk.tensor]!.name;
    const { code, message, retryable, cause } = known;
    return new TensorwireError(code, message, {
      tensor,
      chunk: chunk.index,
      retryable,
      cause: cause ?? known,
    });
  }
}
