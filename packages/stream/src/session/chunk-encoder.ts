import {
  type Answer,
  asTensorwireError,
  BufferPool,
  type Chunk,
  type ChunkRecord,
  type Loan,
  Packing,
  TensorwireError,
} from "@tensorwire/core";
import { type EncodedRecord, isEncodedSource } from "../source/source.js";
import { guarded, whenAnswered } from "./answer.js";
import type { SenderSettings } from "./sender.js";

/** A chunk ready to send. Whoever holds it gives the loan back. */
export interface OutgoingChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly loan: Loan;
  readonly clamped: number;
}

/** A chunk as its source gave it: plain, or with the record of its encoded form. */
interface ReadChunk {
  readonly loan: Loan;
  readonly record?: EncodedRecord;
}

type Settings = Pick<
  SenderSettings,
  "manifest" | "plan" | "source" | "registry" | "backend" | "alignment" | "life"
>;

/** Turns chunks of the source into chunk records and payloads. */
export class ChunkEncoder {
  readonly #payloads: BufferPool;
  readonly #none: number;

  /** @param pool Lends what the source is read into. */
  constructor(
    private readonly settings: Settings,
    private readonly pool: BufferPool,
  ) {
    const { manifest, plan, registry, alignment } = settings;
    this.#none = registry.get("none").id;
    let largest = 1;
    manifest.tensors.forEach(({ codec, dtype }, i) => {
      if (codec.name === "none" || plan.range(i).count === 0) return;
      const { elements } = plan.chunk(plan.range(i).first);
      largest = Math.max(largest, registry.get(codec.name).payloadBytes(codec, dtype, elements));
    });
    this.#payloads = new BufferPool(largest, alignment);
  }

  get loans(): number {
    return this.#payloads.loans;
  }

  read(chunk: Chunk): Answer<ReadChunk> {
    const { source } = this.settings;
    return guarded<ReadChunk>(
      () => {
        if (isEncodedSource(source)) return source.readEncoded(chunk, this.pool);
        const reading = source.read(chunk, this.pool);
        return reading instanceof Promise ? this.#late(reading) : { loan: reading };
      },
      (error) => {
        throw this.#locate(asTensorwireError(error, "SOURCE_READ", source.name), chunk);
      },
    );
  }

  /** A source may take its time (a caller that trains between two tensors): a failure does not wait for it. */
  async #late(reading: Promise<Loan>): Promise<ReadChunk> {
    const { life } = this.settings;
    reading.then(
      (loan) => life.error && loan.release(),
      () => {},
    );
    return { loan: await life.race(reading) };
  }

  /** Takes over the loan of `read`. */
  encode(chunk: Chunk, { loan, record }: ReadChunk): Answer<OutgoingChunk> {
    const { manifest, registry, backend, life } = this.settings;
    const { codec, dtype } = manifest.tensors[chunk.tensor]!;
    if (record) return this.#outgoing(chunk, loan, record, 0);
    if (codec.name === "none") return this.#exact(chunk, loan);
    const { elements } = chunk;
    const reference = registry.get(codec.name);
    const payload = this.#payloads.lend(reference.payloadBytes(codec, dtype, elements));
    const job = { codec, dtype, elements, source: loan.bytes, target: payload.bytes, signal: life.jobs };
    const encoded = guarded(
      () => backend.encode(job),
      (error) => {
        payload.release();
        loan.release();
        throw this.#locate(asTensorwireError(error, "INTERNAL"), chunk);
      },
    );
    return whenAnswered(encoded, ({ nonFinite, clamped, hash, bytes }): Answer<OutgoingChunk> => {
      if (nonFinite === 0) {
        loan.release();
        return this.#outgoing(chunk, payload, { codec: reference.id, payloadBytes: bytes, hash }, clamped);
      }
      // The codec would lose a NaN, an infinity or a value out of its range: the chunk travels exactly.
      payload.release();
      return this.#exact(chunk, loan);
    });
  }

  #exact(chunk: Chunk, loan: Loan): Answer<OutgoingChunk> {
    const { backend, life } = this.settings;
    const hashed = guarded(
      () => backend.hash(loan.bytes, life.jobs),
      (error) => {
        loan.release();
        throw this.#locate(asTensorwireError(error, "INTERNAL"), chunk);
      },
    );
    return whenAnswered(hashed, (hash) =>
      this.#outgoing(chunk, loan, { codec: this.#none, payloadBytes: loan.bytes.length, hash }, 0),
    );
  }

  #outgoing(chunk: Chunk, loan: Loan, encoded: EncodedRecord, clamped: number): OutgoingChunk {
    const record: ChunkRecord = {
      tensor: chunk.tensor,
      firstElement: chunk.first,
      elements: chunk.elements,
      packing: Packing.RAW,
      packedBytes: encoded.payloadBytes,
      ...encoded,
    };
    return { chunk, record, loan, clamped };
  }

  #locate(error: TensorwireError, chunk: Chunk): TensorwireError {
    if (error.tensor !== undefined || error.code === "ABORTED") return error;
    const { code, message, cause, retryable } = error;
    const tensor = this.settings.manifest.tensors[chunk.tensor]!.name;
    return new TensorwireError(code, message, {
      cause: cause ?? error,
      retryable,
      tensor,
      chunk: chunk.index,
    });
  }
}
