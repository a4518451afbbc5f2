import {
  type Answer,
  asTensorwireError,
  type BufferPool,
  type Chunk,
  type ChunkPosition,
  type Codec,
  type CodecSpec,
  type Encoded,
  type Loan,
  Packing,
  TensorwireError,
  uncarriedValue,
  xxh64,
} from "@tensorwire/core";
import type { CorrectedChunk, ErrorFeedback, MadePayload } from "../residuals/error-feedback.js";
import { type EncodedRecord, isEncodedSource } from "../source/source.js";
import { guarded, whenAnswered } from "./answer.js";
import { inChunk } from "./chunk-fault.js";
import { ChunkPacker } from "./chunk-packer.js";
import { LOSSLESS } from "./exact.js";
import { type Findings, NOTHING_FOUND, type OutgoingChunk, outgoing } from "./outgoing-chunk.js";
import type { OutgoingPools } from "./outgoing-pools.js";
import type { SenderSettings } from "./sender-settings.js";
import { sha256Of } from "./sha256.js";

/** A chunk as its source gave it: plain, or with the record of its encoded form. */
interface ReadChunk {
  readonly loan: Loan;
  readonly record?: EncodedRecord;
}

type Settings = Pick<
  SenderSettings,
  "manifest" | "source" | "registry" | "backend" | "life" | "compress" | "nonFinite" | "lossless" | "feedback"
>;

const lent = (loan: Answer<Loan>): Answer<ReadChunk> => whenAnswered(loan, (loan) => ({ loan }));

/** What is to be done about a chunk besides encoding it. */
interface EncodingExtras {
  /** What is known of it already. */
  readonly findings?: Findings;
  /** Takes over the source's loan, and looks at the payload before it is packed or sent. */
  readonly keep?: (payload: MadePayload) => Promise<void>;
}

/** Turns chunks of the source into chunk records and payloads. */
export class ChunkEncoder {
  readonly #packer: ChunkPacker;
  readonly #none: Codec;
  /** The tensor whose name was hashed last: chunks come tensor by tensor. */
  #named = { tensor: -1, hash: 0n };

  /** What the source was asked for last. */
  #reading: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly settings: Settings,
    private readonly pools: OutgoingPools,
  ) {
    this.#none = settings.registry.get("none");
    this.#packer = new ChunkPacker(settings, pools.packed);
  }

  /** Resolves when the source is not busy any more: after a failure it may still be with what it was asked for. */
  get idle(): Promise<void> {
    const settled = (): void => {};
    return this.#reading.then(settled, settled);
  }

  read(chunk: Chunk): Answer<ReadChunk> {
    const { source, manifest, life } = this.settings;
    return guarded<ReadChunk>(
      () => {
        const reading = isEncodedSource(source)
          ? source.readEncoded(chunk, this.pools.source)
          : lent(source.read(chunk, this.pools.source));
        if (!(reading instanceof Promise)) return reading;
        this.#reading = reading;
        return life.borrow<ReadChunk>(reading, ({ loan }) => loan);
      },
      (error) => {
        throw inChunk(asTensorwireError(error, "SOURCE_READ", source.name), manifest, chunk);
      },
    );
  }

  /** Takes over the loan of `read`. */
  encode(chunk: Chunk, { loan, record }: ReadChunk): Answer<OutgoingChunk> {
    if (record) return this.#forward(chunk, loan, record);
    const { manifest, feedback } = this.settings;
    const { codec } = manifest.tensors[chunk.tensor]!;
    if (codec.name === "none") return this.#plain(chunk, loan, NOTHING_FOUND);
    if (feedback?.concerns(chunk.tensor)) return this.#corrected(chunk, loan, feedback);
    return this.#encode(chunk, loan, codec, this.pools.payloads, (found) =>
      this.#uncarried(chunk, loan, found),
    );
  }

  /**
   * Makes a chunk that is not to be sent, since the peer has it, for the residuals that it leaves. Nothing to do where it
   * leaves none.
   */
  async remake(chunk: Chunk): Promise<void> {
    const { feedback } = this.settings;
    if (!feedback || feedback.has(chunk)) return;
    const { loan } = await this.encode(chunk, await this.read(chunk));
    loan.release();
  }

  /** The chunk in memory of the host. Takes over the loan. */
  #onHost(chunk: Chunk, loan: Loan): Answer<Loan> {
    if (!loan.device) return loan;
    const { manifest, backend, life } = this.settings;
    const { dtype } = manifest.tensors[chunk.tensor]!;
    const copy = this.pools.source.lend(chunk.bytes);
    const job = { codec: { name: "none" }, dtype, elements: chunk.elements, source: loan.device };
    const read = guarded(
      () => backend.encode({ ...job, target: copy.bytes, signal: life.jobs }),
      (error) => {
        copy.release();
        loan.release();
        throw inChunk(error, manifest, chunk);
      },
    );
    return whenAnswered(read, () => {
      loan.release();
      return copy;
    });
  }

  /** The chunk with what earlier transfers left out of it; what this one leaves out is kept for the next. */
  async #corrected(chunk: Chunk, source: Loan, feedback: ErrorFeedback): Promise<OutgoingChunk> {
    const { manifest } = this.settings;
    const { codec } = manifest.tensors[chunk.tensor]!;
    let corrected: CorrectedChunk;
    try {
      corrected = await feedback.correct(chunk, await this.#onHost(chunk, source));
    } catch (error) {
      throw inChunk(error, manifest, chunk);
    }
    const otherwise = (found: Encoded): Answer<OutgoingChunk> => this.#uncarried(chunk, corrected, found);
    const keep = (payload: MadePayload): Promise<void> => feedback.keep(chunk, corrected, payload);
    return this.#encode(chunk, corrected, codec, this.pools.payloads, otherwise, { keep });
  }

  /**
   * The chunk in the codec of `spec`; or, where that does not carry it, whatever `otherwise` makes of it, which then has
   * the source's loan.
   */
  #encode(
    chunk: Chunk,
    source: Loan,
    spec: CodecSpec,
    payloads: BufferPool,
    otherwise: (encoded: Encoded) => Answer<OutgoingChunk>,
    { findings = NOTHING_FOUND, keep }: EncodingExtras = {},
  ): Answer<OutgoingChunk> {
    const { manifest, registry, backend, life } = this.settings;
    const { dtype } = manifest.tensors[chunk.tensor]!;
    const { elements } = chunk;
    const codec = registry.get(spec.name);
    const size = codec.payloadBytes(spec, dtype, elements);
    const payload = payloads.lend(size);
    const packed = this.#packer.packs(codec) ? this.#packer.lend(size) : undefined;
    const release = (): void => {
      payload.release();
      packed?.release();
    };
    const job = {
      codec: spec,
      dtype,
      elements,
      source: source.device ?? source.bytes,
      target: payload.bytes,
      at: this.#position(chunk),
      packed: packed?.bytes,
      signal: life.jobs,
    };
    const encoded = guarded(
      () => backend.encode(job),
      (error) => {
        release();
        source.release();
        throw inChunk(error, manifest, chunk);
      },
    );
    return whenAnswered(encoded, (found): Answer<OutgoingChunk> => {
      const { nonFinite, clamped, hash, bytes, packedBytes = 0 } = found;
      if (nonFinite > 0 || found.declined) {
        release();
        return otherwise(found);
      }
      const record = { codec: codec.id, payloadBytes: bytes, hash };
      const sha256 = sha256Of(manifest)?.(payload.bytes.subarray(0, bytes));
      const all = { ...findings, clamped, sha256 };
      const finish = () => this.#packer.shorter(chunk, record, payload, packed, packedBytes, all);
      if (keep) {
        return keep({ bytes: payload.bytes.subarray(0, bytes), hash }).then(finish, (error) => {
          release();
          throw inChunk(error, manifest, chunk);
        });
      }
      source.release();
      return finish();
    });
  }

  /** The codec would lose a NaN, an infinity or a value out of its range, or save nothing: the chunk travels exactly. */
  #uncarried(chunk: Chunk, source: Loan, { nonFinite, declined = false }: Encoded): Answer<OutgoingChunk> {
    const { manifest, nonFinite: wish, lossless, registry } = this.settings;
    const { dtype } = manifest.tensors[chunk.tensor]!;
    if (nonFinite > 0 && wish === "error") {
      return whenAnswered(this.#onHost(chunk, source), (read) => {
        const error = this.#notFinite(chunk, read.bytes);
        read.release();
        throw error;
      });
    }
    const findings = { clamped: 0, declined: declined && nonFinite === 0 };
    const plain = (): Answer<OutgoingChunk> => this.#plain(chunk, source, findings);
    // What travels follows from the peer and the dtype, and not from what packing gives: the digest names the codec.
    if (!lossless || !registry.get(LOSSLESS).supports(dtype)) return plain();
    return this.#encode(chunk, source, { name: LOSSLESS }, this.pools.source, plain, { findings });
  }

  #notFinite(chunk: Chunk, source: Uint8Array): TensorwireError {
    const { manifest } = this.settings;
    const { codec, dtype } = manifest.tensors[chunk.tensor]!;
    const found = uncarriedValue(dtype, chunk.elements, source);
    const which = found ? `element ${chunk.first + found.index} is ${found.value}` : "it has a value";
    const message = `${which}, which ${codec.name} does not carry: mend the model, or let such chunks travel exactly`;
    return inChunk(new TensorwireError("VALUE_NOT_FINITE", message), manifest, chunk);
  }

  /** The source's bytes. */
  #plain(chunk: Chunk, source: Loan, findings: Findings): Answer<OutgoingChunk> {
    return whenAnswered(this.#onHost(chunk, source), (loan) => this.#asItIs(chunk, loan, findings));
  }

  #asItIs(chunk: Chunk, loan: Loan, findings: Findings): Answer<OutgoingChunk> {
    const { backend, life, manifest } = this.settings;
    if (this.#packer.packs(this.#none)) return this.#packer.pack(chunk, loan, this.#none, findings);
    const hashed = guarded(
      () => backend.hash(loan.bytes, life.jobs),
      (error) => {
        loan.release();
        throw inChunk(error, manifest, chunk);
      },
    );
    return whenAnswered(hashed, (hash) => {
      const record = { codec: this.#none.id, payloadBytes: loan.bytes.length, hash };
      return outgoing(chunk, loan, record, { ...findings, sha256: sha256Of(manifest)?.(loan.bytes) });
    });
  }

  /** A chunk that is encoded already: as it is, but for its packing. */
  #forward(chunk: Chunk, loan: Loan, record: EncodedRecord): Answer<OutgoingChunk> {
    const { manifest, registry, lossless, compress, source } = this.settings;
    let codec: Codec;
    try {
      codec = registry.byId(record.codec);
      if (codec.name === LOSSLESS && !lossless) {
        const message =
          "the chunk is lossless, which the peer lacks: name a codec, and the model is encoded anew";
        throw new TensorwireError("CODEC_UNSUPPORTED", message);
      }
      if (manifest.integrity === "sha256" && !record.sha256) {
        const message = `${source.name} says that its integrity is sha256, and gives this chunk without`;
        throw new TensorwireError("SOURCE_MISMATCH", message);
      }
    } catch (error) {
      loan.release();
      throw inChunk(error, manifest, chunk);
    }
    const raw = (record.packing ?? Packing.RAW) === Packing.RAW;
    const { sha256, ...encoded } = record;
    const findings = { ...NOTHING_FOUND, sha256 };
    if (raw && compress && lossless) return this.#packer.pack(chunk, loan, codec, findings);
    if (!raw && !lossless) return this.#packer.unpack(chunk, loan, codec, record, this.pools.source);
    return outgoing(chunk, loan, encoded, findings);
  }

  #position({ tensor, first }: Chunk): ChunkPosition {
    if (this.#named.tensor !== tensor) {
      const { name } = this.settings.manifest.tensors[tensor]!;
      this.#named = { tensor, hash: xxh64(Buffer.from(name)) };
    }
    return { tensor: this.#named.hash, first };
  }
}
