import {
  type Answer,
  BufferPool,
  byteLength,
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  type CodecBackend,
  type CodecRegistry,
  type DecodeJob,
  type DType,
  isHostBytes,
  type Loan,
  type Manifest,
  Packing,
  type Sha256,
  type SlabAlignment,
  segmentsOf,
  TensorwireError,
} from "@tensorwire/core";
import type { Place } from "../sink/sink.js";
import { discardSlab } from "../budget/slab-memory.js";
import { guarded, whenAnswered } from "./answer.js";
import { inChunk } from "./chunk-fault.js";
import { specOf } from "./exact.js";
import { sha256Of } from "./sha256.js";

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
  readonly bytes: Place;
  /** Of the bytes; none where they lie in the sink's own place. */
  readonly loan: Loan | undefined;
  /** SHA-256 of the unpacked payload, with that integrity. */
  readonly sha256?: Uint8Array | undefined;
}

/** One that lies in memory of the host. */
interface HostChunk extends DecodedChunk {
  readonly bytes: Uint8Array;
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
  /** Bytes of the largest payload. */
  readonly largest: number;
}

/** Verifies payloads and decodes them to the dtype that the receiver asked for. */
export class ChunkDecoder {
  readonly outputs: BufferPool;
  /** Payloads that travelled packed, while they are verified and decoded. */
  readonly unpacked: BufferPool;
  readonly #sha256: Sha256 | undefined;

  constructor(private readonly settings: DecoderSettings) {
    const { manifest, plan, dtypes, alignment } = settings;
    this.#sha256 = sha256Of(manifest);
    let largest = 1;
    dtypes.forEach((dtype, i) => {
      const { first, count } = plan.range(i);
      if (count > 0) largest = Math.max(largest, byteLength(dtype, plan.chunk(first).elements));
    });
    this.outputs = new BufferPool(largest, alignment, discardSlab);
    this.unpacked = new BufferPool(settings.largest, alignment, discardSlab);
  }

  get loans(): number {
    return this.outputs.loans + this.unpacked.loans;
  }

  /** Bytes of the decoded chunk. */
  outputBytes(chunk: Chunk): number {
    return byteLength(this.settings.dtypes[chunk.tensor]!, chunk.elements);
  }

  /** Verifies, and leaves the payload as it travelled. Takes over the loan. */
  verify(arrived: ArrivedChunk): Answer<HostChunk> {
    const { chunk, record, loan } = arrived;
    const { backend, jobs } = this.settings;
    const scratch = isPacked(record) ? this.unpacked.lend(record.payloadBytes) : undefined;
    const verified = guarded(
      () => {
        const hash = scratch ? this.#unpack(arrived, scratch.bytes) : backend.hash(loan.bytes, jobs);
        return whenAnswered(hash, (found) => checkHash(found, record));
      },
      (error) => this.#fault(error, arrived, scratch),
    );
    return whenAnswered(verified, () => {
      const sha256 = this.#sha256?.((scratch ?? loan).bytes);
      scratch?.release();
      return { chunk, record, bytes: loan.bytes, loan, sha256 };
    });
  }

  /** Verifies, and decodes into `place` where there is one. Takes over the loan. */
  decode(arrived: ArrivedChunk, place: Place | undefined): Answer<DecodedChunk> {
    const { chunk, record } = arrived;
    const { manifest, dtypes, registry } = this.settings;
    const output = dtypes[chunk.tensor]!;
    const exact =
      registry.byId(record.codec).name === "none" && output === manifest.tensors[chunk.tensor]!.dtype;
    const host = place === undefined || isHostBytes(place) ? place : undefined;
    if (exact && host === place && !isPacked(record)) {
      const verified = this.verify(arrived);
      return host ? whenAnswered(verified, (decoded) => copyTo(host, decoded)) : verified;
    }
    const own = place ? undefined : this.outputs.lend(this.outputBytes(chunk));
    // What lies on a device is written there by the backend, whatever the codec.
    if (place !== undefined && host === undefined) return this.#decodeTo(arrived, output, place, undefined);
    const target = host ?? own!.bytes;
    return exact ? this.#unpackTo(arrived, target, own) : this.#decodeTo(arrived, output, target, own);
  }

  /** What is packed and needs no decoding is unpacked into its place. */
  #unpackTo(arrived: ArrivedChunk, target: Uint8Array, own: Loan | undefined): Answer<DecodedChunk> {
    const { chunk, record, loan } = arrived;
    const verified = guarded(
      () => whenAnswered(this.#unpack(arrived, target), (found) => checkHash(found, record)),
      (error) => this.#fault(error, arrived, own),
    );
    return whenAnswered(verified, () => {
      loan.release();
      return { chunk, record, bytes: target, loan: own, sha256: this.#sha256?.(target) };
    });
  }

  #decodeTo(
    arrived: ArrivedChunk,
    output: DType,
    target: Place,
    own: Loan | undefined,
  ): Answer<DecodedChunk> {
    const { chunk, record, loan } = arrived;
    const { manifest, registry, backend, jobs } = this.settings;
    const { codec, dtype } = manifest.tensors[chunk.tensor]!;
    const scratch = isPacked(record) ? this.unpacked.lend(record.payloadBytes) : undefined;
    const job = {
      codec: specOf(registry.byId(record.codec), codec) ?? codec,
      dtype,
      elements: chunk.elements,
      payload: loan.bytes,
      unpacked: scratch?.bytes,
      hash: record.hash,
      output,
      target,
      signal: jobs,
    };
    const decoded = guarded(
      () => (scratch && this.#sha256 ? this.#unpackFirst(arrived, scratch, job) : backend.decode(job)),
      (error) => this.#fault(error, arrived, own, scratch),
    );
    return whenAnswered(decoded, () => {
      const sha256 = this.#sha256?.((scratch ?? loan).bytes);
      scratch?.release();
      loan.release();
      return { chunk, record, bytes: target, loan: own, sha256 };
    });
  }

  /** A backend that decodes what is packed need not put all of the payload together: what is to be hashed has to be. */
  #unpackFirst(arrived: ArrivedChunk, { bytes }: Loan, job: DecodeJob): Answer<void> {
    return whenAnswered(this.#unpack(arrived, bytes), (found): Answer<void> => {
      checkHash(found, arrived.record);
      return this.settings.backend.decode({ ...job, payload: bytes, unpacked: undefined });
    });
  }

  /** Fills `payload`, and gives its hash. */
  #unpack({ chunk, record, loan }: ArrivedChunk, payload: Uint8Array): Answer<bigint> {
    const { manifest, registry, backend, jobs } = this.settings;
    const { codec: spec, dtype } = manifest.tensors[chunk.tensor]!;
    const codec = registry.byId(record.codec);
    const segments = segmentsOf(
      codec,
      specOf(codec, spec) ?? spec,
      dtype,
      chunk.elements,
      record.payloadBytes,
    );
    return backend.unpack({ packed: loan.bytes, segments, payload, signal: jobs });
  }

  #fault(error: unknown, { chunk, record, loan }: ArrivedChunk, ...loans: (Loan | undefined)[]): never {
    for (const each of [loan, ...loans]) each?.release();
    throw inChunk(isPacked(record) ? asDamage(error) : error, this.settings.manifest, chunk);
  }
}

const isPacked = ({ packing }: ChunkRecord): boolean => packing !== Packing.RAW;

/** The hash is of the unpacked payload: damage on the way can be what keeps it from being unpacked. */
function asDamage(error: unknown): unknown {
  if (!(error instanceof TensorwireError) || error.code !== "PAYLOAD_INVALID") return error;
  return new TensorwireError(error.code, error.message, { cause: error, retryable: true });
}

function checkHash(found: bigint, { hash }: ChunkRecord): void {
  if (found === hash) return;
  throw new TensorwireError("CHUNK_CORRUPT", "the payload does not match its hash");
}

function copyTo(place: Uint8Array, { chunk, record, bytes, loan, sha256 }: HostChunk): DecodedChunk {
  try {
    place.set(bytes);
  } finally {
    loan?.release();
  }
  return { chunk, record, bytes: place, loan: undefined, sha256 };
}
