import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";
import type { Answer, CodecBackend, DecodeJob, EncodedChunk, EncodeJob } from "./backend.js";
import { JobQueue } from "./job-queue.js";

/** Jobs of less than this are done within the call: waiting for a turn of the event loop would take longer. */
const QUEUED_BYTES = 16 * 1024;

/** The reference codecs as a backend: no addon, no threads, one job a turn of the event loop but for small ones. */
export class PortableBackend implements CodecBackend {
  readonly name = "portable";
  readonly #codecs: CodecRegistry;
  readonly #queue = new JobQueue();

  /** @param codecs the codecs that jobs may name. */
  constructor(codecs: CodecRegistry = defaultCodecs) {
    this.#codecs = codecs;
  }

  encode(job: EncodeJob): Answer<EncodedChunk> {
    return this.#run(job.source.length, job.signal, () => {
      const { codec, dtype, elements, source, target } = job;
      const encoded = this.#codecs.get(codec.name).encode(codec, dtype, elements, source, target);
      return { ...encoded, hash: xxh64(target.subarray(0, encoded.bytes)) };
    });
  }

  decode(job: DecodeJob): Answer<void> {
    return this.#run(job.payload.length, job.signal, () => {
      const { codec, dtype, elements, payload, output, target } = job;
      const reference = this.#codecs.get(codec.name);
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

  #run<T>(bytes: number, signal: AbortSignal | undefined, work: () => T): Answer<T> {
    if (bytes >= QUEUED_BYTES || signal?.aborted) return this.#queue.run(work, signal);
    try {
      return work();
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

function hex(hash: bigint): string {
  return hash.toString(16).padStart(16, "0");
}
