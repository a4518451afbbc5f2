import type { Encoded } from "../codec/codec.js";
import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { checkElements } from "../codec/codec-arguments.js";
import { isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";
import { packPayload, segmentsOf, unpackPayload } from "../packing/envelope.js";
import { type Packer, unpackOnly } from "../packing/packer.js";
import { checkAccumulate } from "./accumulate-arguments.js";
import type {
  AccumulateJob,
  Answer,
  CodecBackend,
  DecodeJob,
  EncodedChunk,
  EncodeJob,
  FiniteJob,
  Finiteness,
  Packed,
  PackJob,
  UnpackJob,
} from "./backend.js";
import { DecodedRoom } from "./decoded-values.js";
import { hostBytes, isHostBytes } from "./device-bytes.js";
import { JobQueue } from "./job-queue.js";
import { addWeighted, allFinite } from "./weighted-sum.js";

/** Jobs of less than this are done within the call: waiting for a turn of the event loop would take longer. */
const QUEUED_BYTES = 16 * 1024;

/** What jobs have in common that take a payload. */
type Travelled = Omit<FiniteJob, "output">;

/**
 * The reference codecs as a backend: no addon, no threads, one job a turn of the event loop but for small ones.
 * @example
 * const backend = new PortableBackend();
 * const [source, target] = [bytesOf(Float32Array.of(1, -0.5, 0.25)), new Uint8Array(6)];
 * const codec = normfloat4.resolve({ name: "normfloat4" });
 * const { bytes, hash } = await backend.encode({ codec, dtype: "F32", elements: 3, source, target });
 * console.log(bytes, hash.toString(16)); // 6 9b3812a950636f9c
 */
export class PortableBackend implements CodecBackend {
  readonly name = "portable";
  readonly #codecs: CodecRegistry;
  readonly #packer: Packer;
  #unpacks: boolean;
  readonly #queue = new JobQueue();
  /** Jobs run one after the other, each to its end. */
  readonly #decoded = new DecodedRoom();

  /**
   * @param codecs the codecs that jobs may name.
   * @param packer what packs payloads; by default they are unpacked only.
   */
  constructor(codecs: CodecRegistry = defaultCodecs, packer: Packer = unpackOnly) {
    this.#codecs = codecs;
    this.#packer = packer;
    this.#unpacks = packer.load === undefined;
  }

  /** As the reference codec does, in this thread. */
  encode(job: EncodeJob): Answer<EncodedChunk> {
    const bytes = isHostBytes(job.source) ? job.source.length : 0;
    return this.#run(bytes, job.signal, () => {
      const { codec, dtype, elements, target, at, packed } = job;
      const source = hostBytes(this.name, job.source);
      const reference = this.#codecs.get(codec.name);
      const encoded = reference.encode(codec, dtype, elements, source, target, at);
      const payload = target.subarray(0, encoded.bytes);
      const hash = xxh64(payload);
      if (packed === undefined || !travels(encoded)) return { ...encoded, hash };
      const segments = segmentsOf(reference, codec, dtype, elements, encoded.bytes);
      return { ...encoded, hash, packedBytes: packPayload(payload, segments, this.#packer, packed) };
    });
  }

  decode(job: DecodeJob): Answer<void> {
    return this.#runUnpacked(job, () => {
      const { codec, dtype, elements, output } = job;
      const target = hostBytes(this.name, job.target);
      this.#codecs.get(codec.name).decode(codec, dtype, elements, this.#verified(job), output, target);
    });
  }

  accumulate(job: AccumulateJob): Answer<Finiteness> {
    return this.#runUnpacked(job, () => {
      const { codec, dtype, elements, weight, accumulator } = job;
      checkAccumulate(job);
      const payload = this.#verified(job);
      const output = accumulator instanceof Float64Array ? "F64" : "F32";
      const { bytes, values } = this.#decoded.take(output, elements);
      this.#codecs.get(codec.name).decode(codec, dtype, elements, payload, output, bytes);
      return { finite: addWeighted(values, weight, accumulator) };
    });
  }

  finite(job: FiniteJob): Answer<Finiteness> {
    return this.#runUnpacked(job, () => {
      const { codec, dtype, elements, output } = job;
      checkElements(codec.name, elements);
      const payload = this.#verified(job);
      if (!isFloatDType(dtype)) return { finite: true };
      const reference = this.#codecs.get(codec.name);
      const told = reference.finite?.(codec, dtype, elements, payload);
      if (told !== undefined) return { finite: told };
      const { bytes, values } = this.#decoded.take(output, elements);
      reference.decode(codec, dtype, elements, payload, output, bytes);
      return { finite: allFinite(values) };
    });
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint> {
    return this.#run(bytes.length, signal, () => xxh64(bytes));
  }

  pack({ payload, segments, packed, signal }: PackJob): Answer<Packed> {
    return this.#run(payload.length, signal, () => ({
      hash: xxh64(payload),
      packedBytes: packPayload(payload, segments, this.#packer, packed),
    }));
  }

  unpack({ packed, segments, payload, signal }: UnpackJob): Answer<bigint> {
    return this.#runUnpacked({ payload, unpacked: payload, signal }, () => {
      unpackPayload(packed, segments, this.#packer, payload);
      return xxh64(payload);
    });
  }

  /** The payload as its codec made it, if it has the hash that it should have. */
  #verified({ codec, dtype, elements, payload, unpacked, hash }: Travelled): Uint8Array {
    const reference = this.#codecs.get(codec.name);
    if (unpacked !== undefined) {
      const segments = segmentsOf(reference, codec, dtype, elements, unpacked.length);
      unpackPayload(payload, segments, this.#packer, unpacked);
    }
    const made = unpacked ?? payload;
    if (hash === undefined) return made;
    const found = xxh64(made);
    if (found === hash) return made;
    throw new TensorwireError(
      "CHUNK_CORRUPT",
      `the payload's xxh64 is ${hex(found)} and should be ${hex(hash)}: it changed on its way`,
    );
  }

  /** Runs what may have an envelope to open, for which the packer may have to be loaded. */
  #runUnpacked<T>(
    { payload, unpacked, signal }: Pick<FiniteJob, "payload" | "unpacked" | "signal">,
    work: () => T,
  ): Answer<T> {
    if (unpacked === undefined || this.#unpacks) return this.#run(payload.length, signal, work);
    return this.#packer.load!().then(() => {
      this.#unpacks = true;
      return this.#queue.run(work, signal);
    });
  }

  #run<T>(bytes: number, signal: AbortSignal | undefined, work: () => T): Answer<T> {
    if (bytes >= QUEUED_BYTES || signal?.aborted) return this.#queue.run(work, signal);
    try {
      return work();
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

/** Whether the payload is sent at all: a chunk that its codec does not carry travels exactly. */
function travels({ nonFinite, declined }: Encoded): boolean {
  return nonFinite === 0 && !declined;
}

function hex(hash: bigint): string {
  return hash.toString(16).padStart(16, "0");
}
