import type { DType } from "../dtype.js";

/** A codec with its parameters: what a policy chooses and a manifest carries. */
export interface CodecSpec {
  /** NVFlare's names where it has the format. */
  readonly name: string;
  /** Elements per scale, for codecs that work in blocks. */
  readonly block?: number;
}

/** What `encode` found and wrote. */
export interface Encoded {
  /** Bytes written to the target: the payload's length. */
  readonly bytes: number;
  /** How many of them are scale data. */
  readonly scaleBytes: number;
  /**
   * Elements that the codec cannot carry as finite values: NaN, infinity, or outside the range of f32 (of the target
   * type for `bfloat16`, which rounds its topmost values to infinity). The payload is still the one that the format
   * defines; the sender sends such a chunk as `none` instead.
   */
  readonly nonFinite: number;
  /** Finite elements that were clamped to the codec's range. */
  readonly clamped: number;
}

/**
 * A pure, synchronous, deterministic transform of a chunk: the reference that every backend equals bit for bit.
 * All buffers are the caller's, may begin at any address, and never overlap; sources are never written.
 */
export interface Codec {
  readonly name: string;
  /** Number on the wire, u16. Never reused. */
  readonly id: number;
  /**
   * The spec with defaults filled in.
   * @throws TensorwireError `INVALID_ARGUMENT` for parameters that the codec does not take.
   */
  resolve(spec: CodecSpec): CodecSpec;
  /** Whether it takes elements of this dtype. */
  supports(dtype: DType): boolean;
  /** Exact bytes of the payload of `elements` elements. */
  payloadBytes(spec: CodecSpec, dtype: DType, elements: number): number;
  /** How many of them are scale data. */
  scaleBytes(spec: CodecSpec, dtype: DType, elements: number): number;
  /** Encodes `elements` elements of `dtype` from `source` into the beginning of `target`. */
  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded;
  /**
   * Decodes `payload`, made from `elements` elements of `dtype`, into the beginning of `target` as `output`.
   * Narrowing rounds to nearest, ties to even.
   * @throws TensorwireError `PAYLOAD_INVALID` where the length is not that of such a payload.
   */
  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void;
}
