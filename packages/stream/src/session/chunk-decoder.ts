import {
  type Answer,
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
import { guarded, whenAnswered } from "./answer.js";

/** A chunk whose payload has come; its hash is not verified. Whoever holds it gives the loan back. */
export interface ArrivedChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly loan: Loan;
}

/** A verified chunk for the sink. Whoever holds it gives the loan back, if there is one, when its bytes are used no more. */
export interface DecodedChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly bytes: Uint8Array;
  /** Of the bytes; none where they lie in the sink's own place. */
  readonly loan: Loan | undefined;
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
  verify({ chunk, record, loan }: ArrivedChunk): Answer<DecodedChunk> {
    const { backend, jobs } = this.settings;
    const verified = guarded(
      () =>
        whenAnswered(backend.hash(loan.bytes, jobs), (hash) => {
          if (hash === record.hash) return;
          throw new TensorwireError("CHUNK_CORRUPT", "the payload does not match its hash");
        }),
      (error) => {
        loan.release();
        throw this.#locate(error, chunk);
      },
    );
    return whenAnswered(verified, () => ({
      chunk,
      record,
      bytes: loan.bytes,
      loan,
    }));
  }

  /** Verifies, and decodes into `place` where there is one. Takes over the loan. */
  decode(arrived: ArrivedChunk, place: Uint8Array | undefined): Answer<DecodedChunk> {
    const { chunk, record, loan } = arrived;
    const { manifest, dtypes, registry, backend, jobs } = this.settings;
    const { codec: spec, dtype } = manifest.tensors[chunk.tensor]!;
    const output = dtypes[chunk.tensor]!;
    const exact = registry.byId(record.codec).name === "none";
    if (exact && output === dtype) {
      const verified = this.verify(arrived);
      return place ? whenAnswered(verified, (decoded) => copyTo(place, decoded)) : verified;
    }
    const own = place ? undefined : this.#outputs.lend(this.outputBytes(chunk));
    const target = place ?? own!.bytes;
    const job = {
      codec: exact ? { name: "none" } : spec,
      dtype,
      elements: chunk.elements,
      payload: loan.bytes,
      hash: record.hash,
      output,
      target,
      signal: jobs,
    };
    const decoded = guarded(
      () => backend.decode(job),
      (error) => {
        own?.release();
        loan.release();
        throw this.#locate(error, chunk);
      },
    );
    return whenAnswered(decoded, () => {
      loan.release();
      return { chunk, record, bytes: target, loan: own };
    });
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

function copyTo(place: Uint8Array, { chunk, record, bytes, loan }: DecodedChunk): DecodedChunk {
  try {
    place.set(bytes);
  } finally {
    loan?.release();
  }
  return { chunk, record, bytes: place, loan: undefined };
}
