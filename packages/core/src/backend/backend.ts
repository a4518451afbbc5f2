import type { ChunkPosition, CodecSpec, Encoded } from "../codec/codec.js";
import type { DType } from "../dtype.js";
import type { DeviceBytes } from "./device-bytes.js";

/** A run of elements to encode: `source` holds `elements` of `dtype`, `target` takes the payload. */
export interface EncodeJob {
  /** The codec to encode by, resolved: with all its parameters. */
  readonly codec: CodecSpec;
  /** Of the source. */
  readonly dtype: DType;
  /** How many elements. */
  readonly elements: number;
  /** The elements, little-endian and contiguous. */
  readonly source: Uint8Array | DeviceBytes;
  /** At least `payloadBytes` long. */
  readonly target: Uint8Array;
  /** Where the elements lie; by default at the beginning of a tensor of no name. */
  readonly at?: ChunkPosition | undefined;
  /** Takes the packed payload, where packing is wanted: as long as `target`. What does not fit is not worth packing. */
  readonly packed?: Uint8Array | undefined;
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** What packing found. */
export interface Packed {
  /** xxh64 of the payload, unpacked. */
  readonly hash: bigint;
  /** Bytes written to the job's `packed`; absent, or 0, where the payload is to travel as it is. */
  readonly packedBytes?: number;
}

/** What an encode job found, the xxh64 of the payload, and how long it is packed: all of the same call. */
export interface EncodedChunk extends Encoded, Packed {}

/** A payload to verify and decode into `target`, which takes `elements` of `output`. */
export interface DecodeJob {
  /** The codec it was encoded by, resolved: with all its parameters. */
  readonly codec: CodecSpec;
  /** The dtype it was encoded from. */
  readonly dtype: DType;
  /** How many elements. */
  readonly elements: number;
  /** As it travelled. */
  readonly payload: Uint8Array;
  /** Where it travelled packed: room for it unpacked, of exactly its length. */
  readonly unpacked?: Uint8Array | undefined;
  /** What xxh64 of the unpacked payload must be; left out where that was verified before. */
  readonly hash?: bigint | undefined;
  /** The dtype to decode to. */
  readonly output: DType;
  /** Takes the elements. */
  readonly target: Uint8Array | DeviceBytes;
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** A payload to verify, to decode, and to add, times a weight, to sums that are there. */
export interface AccumulateJob {
  /** The codec it was encoded by, resolved: with all its parameters. */
  readonly codec: CodecSpec;
  /** The dtype it was encoded from: one of floats. */
  readonly dtype: DType;
  /** How many elements. */
  readonly elements: number;
  /** As it travelled. */
  readonly payload: Uint8Array;
  /** Where it travelled packed: room for it unpacked, of exactly its length. */
  readonly unpacked?: Uint8Array | undefined;
  /** What xxh64 of the unpacked payload must be; left out where that was verified before. */
  readonly hash?: bigint | undefined;
  /** Finite, also as float32 where the sums are. */
  readonly weight: number;
  /** A sum an element, and as many more as there are: those are left alone. */
  readonly accumulator: Float32Array | Float64Array;
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** What the values of a payload are. */
export interface Finiteness {
  /** Whether none of them is infinite or NaN. */
  readonly finite: boolean;
}

/** A payload to verify, and to look through for values that are not finite. */
export interface FiniteJob {
  /** The codec it was encoded by, resolved: with all its parameters. */
  readonly codec: CodecSpec;
  /** The dtype it was encoded from. What is none of floats is always finite. */
  readonly dtype: DType;
  /** How many elements. */
  readonly elements: number;
  /** As it travelled. */
  readonly payload: Uint8Array;
  /** Where it travelled packed: room for it unpacked, of exactly its length. */
  readonly unpacked?: Uint8Array | undefined;
  /** What xxh64 of the unpacked payload must be; left out where that was verified before. */
  readonly hash?: bigint | undefined;
  /** What the values have to be finite as: that of the sums they will be added to. */
  readonly output: "F32" | "F64";
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** A payload to hash and to pack. */
export interface PackJob {
  /** Unpacked. */
  readonly payload: Uint8Array;
  /** Lengths of its parts, which are packed each by itself: see `segmentsOf`. */
  readonly segments: readonly number[];
  /** As long as the payload. */
  readonly packed: Uint8Array;
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** A packed payload to unpack and to hash. */
export interface UnpackJob {
  /** As it travelled. */
  readonly packed: Uint8Array;
  /** Lengths of the payload's parts, unpacked. */
  readonly segments: readonly number[];
  /** Takes the payload: exactly as long as all segments. */
  readonly payload: Uint8Array;
  /** Cancels the job: it rejects with `ABORTED` once its buffers are no longer in use. */
  readonly signal?: AbortSignal | undefined;
}

/** A result, or its promise. */
export type Answer<T> = T | Promise<T>;

/**
 * Where codecs run: asynchronous, cancellable, the same bytes as the reference codecs. The caller owns every buffer
 * and may not touch a job's buffers until its promise settles. Where a job may have `DeviceBytes`, backends that run on
 * this machine's own processor reject those with `INVALID_ARGUMENT`. An aborted job rejects with `ABORTED` once its buffers
 * are no longer in use. A job that is small may be done within the call and answered with its result itself: for ten
 * thousand tensors of a kibibyte each, promises cost more than codecs. Nothing is ever thrown: faults reject.
 */
export interface CodecBackend {
  /** For summaries and notices: `portable`, `native-avx2`, … */
  readonly name: string;
  /** Bytes of elements that were encoded and decoded so far, by the name of what did it, where that is not this backend alone. */
  readonly ran?: Readonly<Record<string, number>>;
  /**
   * Encodes, hashes the payload, and packs it where that is asked for. @throws TensorwireError `INVALID_ARGUMENT`,
   * `ABORTED`.
   */
  encode(job: EncodeJob): Answer<EncodedChunk>;
  /**
   * Verifies the hash, where there is one, and decodes, in one pass where the backend can: what a job that fails has left in its target
   * means nothing.
   * @throws TensorwireError `CHUNK_CORRUPT`, `PAYLOAD_INVALID`, `ABORTED`.
   */
  decode(job: DecodeJob): Answer<void>;
  /**
   * Verifies, decodes to float32 or float64, as the accumulator is, and adds. Each step is rounded by itself, so that
   * sums are the same bits everywhere: in float32 `sum = fround(sum + fround(fround(weight) * value))`, in float64
   * `sum + weight * value`. Where a value is not finite, or the job fails after it has begun, the accumulator means
   * nothing.
   * @throws TensorwireError `CHUNK_CORRUPT`, `PAYLOAD_INVALID`, `ABORTED`.
   */
  accumulate(job: AccumulateJob): Answer<Finiteness>;
  /**
   * What `accumulate` would say of the values. Of codecs of blocks it looks at the scales alone.
   * @throws TensorwireError `CHUNK_CORRUPT`, `PAYLOAD_INVALID`, `ABORTED`.
   */
  finite(job: FiniteJob): Answer<Finiteness>;
  /** xxh64 with seed 0. */
  hash(bytes: Uint8Array, signal?: AbortSignal): Answer<bigint>;
  /** Packs a payload that is there already, as that of `none` is. */
  pack(job: PackJob): Answer<Packed>;
  /**
   * The hash of a payload that travelled packed.
   * @throws TensorwireError `PAYLOAD_INVALID`, `ABORTED`.
   */
  unpack(job: UnpackJob): Answer<bigint>;
}
