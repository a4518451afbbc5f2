import type { CodecSpec, Encoded } from "../codec/codec.js";
import type { DType } from "../dtype.js";

/** A run of elements to encode: `source` holds `elements` of `dtype`, `target` takes the payload. */
export interface EncodeJob {
  readonly codec: CodecSpec;
  readonly dtype: DType;
  readonly elements: number;
  readonly source: Uint8Array;
  /** At least `payloadBytes` long. */
  readonly target: Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

/** What an encode job found, and the xxh64 of the payload, computed in the same call. */
export interface EncodedChunk extends Encoded {
  readonly hash: bigint;
}

/** A payload to verify and decode into `target`, which takes `elements` of `output`. */
export interface DecodeJob {
  readonly codec: CodecSpec;
  /** The dtype it was encoded from. */
  readonly dtype: DType;
  readonly elements: number;
  readonly payload: Uint8Array;
  /** What xxh64(payload) must be. */
  readonly hash: bigint;
  /** The dtype to decode to. */
  readonly output: DType;
  readonly target: Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

/** A result, or its promise. */
export type Answer<T> = T | Promise<T>;

/**
 * Where codecs run: asynchronous, cancellable, the same bytes as the reference codecs. The caller owns every buffer
 * and may not touch a job's buffers until its promise settles. An aborted job rejects with `ABORTED` once its buffers
 * are no longer in use. A job that is small may be done within the call and answered with its result itself: for ten
 * thousand tensors of a kibibyte each, promises cost more than codecs. Nothing is ever thrown: faults reject.
 */
export interface CodecBackend {
  /** For summaries and notices: `portable`, `native-avx2`, … */
  readonly name: string;
  encode(job: EncodeJob): Answer<EncodedChunk>;
  /**
   * Verifies the hash, then decodes; a payload that fails leaves the target untouched.
   * @throws TensorwireError `CHUNK_CORRUPT`, `PAYLOAD_INVALID`, `ABORTED`.
   */
  decode(job: DecodeJob): Answer<void>;
  /** xxh64 with seed 0. */
  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint>;
}
