import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";
import type { CodecBackend, DecodeJob, EncodedChunk, EncodeJob } from "./backend.js";
import { JobQueue } from "./job-queue.js";

/** The reference codecs as a backend: no addon, no threads, one job a turn of the event loop. */
export class PortableBackend implements CodecBackend {
  readonly name = "portable";
  readonly #codecs: CodecRegistry;
  readonly #queue = new JobQueue();

  /** @param codecs the codecs that jobs may name. */
  constructor(codecs: CodecRegistry = defaultCodecs) {
    this.#codecs = codecs;
  }

  encode(job: EncodeJob): Promise<EncodedChunk> {
    return this.#queue.run(() => {
      const { codec, dtype, elements, source, target } = job;
      const encoded = this.#codecs.get(codec.name).encode(codec, dtype, elements, source, target);
      return { ...encoded, hash: xxh64(target.subarray(0, encoded.bytes)) };
    }, job.signal);
  }

  decode(job: DecodeJob): Promise<void> {
    return this.#queue.run(() => {
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
    }, job.signal);
  }

  hash(bytes: Uint8Array, signal?: AbortSignal): Promise<bigint> {
    return this.#queue.run(() => xxh64(bytes), signal);
  }
}

function hex(hash: bigint): string {
  return hash.toString(16).padStart(16, "0");
}
