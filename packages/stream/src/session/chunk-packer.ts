import {
  type Answer,
  type BufferPool,
  type Chunk,
  type Codec,
  type Loan,
  Packing,
  segmentsOf,
} from "@tensorwire/core";
import type { EncodedRecord } from "../source/source.js";
import { guarded, whenAnswered } from "./answer.js";
import { inChunk } from "./chunk-fault.js";
import { specOf } from "./exact.js";
import { type Findings, NOTHING_FOUND, type OutgoingChunk, outgoing } from "./outgoing-chunk.js";
import type { SenderSettings } from "./sender-settings.js";
import { sha256Of } from "./sha256.js";

type Settings = Pick<SenderSettings, "manifest" | "backend" | "life" | "compress" | "lossless">;

/** Payloads that travel packed: which ones, and in what memory. */
export class ChunkPacker {
  constructor(
    private readonly settings: Settings,
    private readonly packed: BufferPool,
  ) {}

  /** Whether payloads of `codec` are packed where that makes them smaller. */
  packs(codec: Codec): boolean {
    const { compress, lossless } = this.settings;
    return lossless && (compress || codec.packs === true);
  }

  /** Room for a payload of `bytes`, packed. */
  lend(bytes: number): Loan {
    return this.packed.lend(bytes);
  }

  /** Hashes and packs a payload that is there already. Takes over its loan. */
  pack(chunk: Chunk, payload: Loan, codec: Codec, findings: Findings = NOTHING_FOUND): Answer<OutgoingChunk> {
    const { backend, life, manifest } = this.settings;
    const packed = this.lend(payload.bytes.length);
    const job = {
      payload: payload.bytes,
      segments: this.#segments(chunk, codec, payload.bytes.length),
      packed: packed.bytes,
      signal: life.jobs,
    };
    const done = guarded(
      () => backend.pack(job),
      (error) => this.#fault(error, chunk, packed, payload),
    );
    return whenAnswered(done, ({ hash, packedBytes = 0 }) => {
      const record = { codec: codec.id, payloadBytes: payload.bytes.length, hash };
      const sha256 = findings.sha256 ?? sha256Of(manifest)?.(payload.bytes);
      return this.shorter(chunk, record, payload, packed, packedBytes, { ...findings, sha256 });
    });
  }

  /** For a peer that does not undo packing. Takes over the loan. */
  unpack(
    chunk: Chunk,
    packed: Loan,
    codec: Codec,
    { payloadBytes, sha256 }: EncodedRecord,
    pool: BufferPool,
  ): Answer<OutgoingChunk> {
    const { backend, life } = this.settings;
    const payload = pool.lend(payloadBytes);
    const job = {
      packed: packed.bytes,
      segments: this.#segments(chunk, codec, payloadBytes),
      payload: payload.bytes,
      signal: life.jobs,
    };
    const done = guarded(
      () => backend.unpack(job),
      (error) => this.#fault(error, chunk, payload, packed),
    );
    return whenAnswered(done, (hash) => {
      packed.release();
      return outgoing(chunk, payload, { codec: codec.id, payloadBytes, hash }, { ...NOTHING_FOUND, sha256 });
    });
  }

  /**
   * The chunk as the shorter of the two; the other loan goes back.
   * @param packedBytes 0 where packing made nothing smaller.
   */
  shorter(
    chunk: Chunk,
    record: EncodedRecord,
    payload: Loan,
    packed: Loan | undefined,
    packedBytes: number,
    findings: Findings,
  ): OutgoingChunk {
    if (packed && packedBytes > 0) {
      payload.release();
      return outgoing(chunk, packed, { ...record, packing: Packing.ZSTD, packedBytes }, findings);
    }
    packed?.release();
    return outgoing(chunk, payload, record, findings);
  }

  #segments({ tensor, elements }: Chunk, codec: Codec, payloadBytes: number): readonly number[] {
    const { codec: spec, dtype } = this.settings.manifest.tensors[tensor]!;
    return segmentsOf(codec, specOf(codec, spec) ?? spec, dtype, elements, payloadBytes);
  }

  #fault(error: unknown, chunk: Chunk, ...loans: readonly Loan[]): never {
    for (const loan of loans) loan.release();
    throw inChunk(error, this.settings.manifest, chunk);
  }
}
