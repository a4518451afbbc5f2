import type { Encoded } from "../codec/codec.js";
import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";
import { packPayload, segmentsOf, unpackPayload } from "../packing/envelope.js";
import { type Packer, unpackOnly } from "../packing/packer.js";
import type {
  Answer,
  CodecBackend,
  DecodeJob,
  EncodedChunk,
  EncodeJob,
  Packed,
  PackJob,
  UnpackJob,
} from "./backend.js";
import { JobQueue } from "./job-queue.js";

/** Jobs of less than this are done within the call: waiting for a turn of the event loop would take longer. */
const QUEUED_BYTES = 16 * 1024;

/** The reference codecs as a backend: no addon, no threads, one job a turn of the event loop but for small ones. */
export class PortableBackend implements CodecBackend {
  readonly name = "portable";
  readonly #codecs: CodecRegistry;
  readonly #packer: Packer;
  readonly #queue = new JobQueue();

  /**
   * @param codecs the codecs that jobs may name.
   * @param packer what packs payloads; by default they are unpacked only.
   */
  constructor(codecs: CodecRegistry = defaultCodecs, packer: Packer = unpackOnly) {
    this.#codecs = codecs;
    this.#packer = packer;
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    return this.#run(job.source.length, job.signal, () => {
      const { codec, dtype, elements, source, target, at, packed } = job;
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
    return this.#run(job.payload.length, job.signal, () => {
      const { codec, dtype, elements, unpacked, output, target } = job;
      const reference = this.#codecs.get(codec.name);
      if (unpacked !== undefined) {
        const segments = segmentsOf(reference, codec, dtype, elements, unpacked.length);
        unpackPayload(job.payload, segments, this.#packer, unpacked);
      }
      const payload = unpacked ?? job.payload;
      const found = xxh64(payload);
      if (found !== job.hash) {
        throw new TensorwireError(
          "CHUNK_CORRUPT",
          `the payload's xxh64 is ${hex(found)} and should be ${hex(job.hash)}: it changed on its way`,
        );
      }
      reference.decode(codec, dtype, elements, payload, output, target);
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
    return this.#run(payload.length, signal, () => {
      unpackPayload(packed, segments, this.#packer, payload);
      return xxh64(payload);
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
