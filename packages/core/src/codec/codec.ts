import type { DType } from "../dtype.js";
import { xxh64 } from "../hash.js";

/** A codec with its parameters: what a policy chooses and a manifest carries. */
export interface CodecSpec {
  /** NVFlare's names where it has the format. */
  readonly name: string;
  /** Elements per scale, for codecs that work in blocks. */
  readonly block?: number;
  /** `float4` and `normfloat4`: scales in 8 bits, as bitsandbytes' double quantization stores them. */
  readonly nested?: boolean;
  /** `linearN`: levels around zero, or between a block's least and largest value. */
  readonly mode?: "symmetric" | "affine";
  /** `linearN`: to the nearest level, or to one of the two around a value, at random and without bias. */
  readonly rounding?: "nearest" | "stochastic";
  /** `linearN` with stochastic rounding: 16 hexadecimal digits. A transfer draws one where none is given. */
  readonly seed?: string;
  /** `linearN`: one scale, known to all, in the place of one a block. */
  readonly scale?: number;
  /** `adaquant`: how much a bit costs beside an error. */
  readonly weight?: number;
}

/** Where the elements of a chunk lie: what stochastic rounding draws by. */
export interface ChunkPosition {
  /** xxh64 of the tensor's name in UTF-8. */
  readonly tensor: bigint;
  /** Index of the chunk's first element in its tensor. */
  readonly first: number;
}

/** The position of a chunk of which none is known: the beginning of a tensor of no name. */
export const UNNAMED: ChunkPosition = Object.freeze({ tensor: xxh64(new Uint8Array()), first: 0 });

/** What `encode` found and wrote. */
export interface Encoded {
  /** Bytes written to the target: the payload's length. */
  readonly bytes: number;
  /** How many of them are scale data. */
  readonly scaleBytes: number;
  /**
   * Elements that the codec cannot carry as finite values: NaN, infinity, or outside the range of f32 (of the target
   * type for `bfloat16`, which rounds its topmost values to infinity). The payload is still the one that the format
   * defines; the sender sends such a chunk exactly instead.
   */
  readonly nonFinite: number;
  /** Finite elements that were clamped to the codec's range. */
  readonly clamped: number;
  /**
   * The codec's own rule says that it would save nothing on this chunk: there is no payload, and the sender sends the
   * chunk exactly.
   */
  readonly declined?: boolean;
}

/**
 * A pure, synchronous, deterministic transform of a chunk: the reference that every backend equals bit for bit.
 * All buffers are the caller's, may begin at any address, and never overlap; sources are never written.
 */
export interface Codec {
  /** What a policy calls it. */
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
  /** Bytes of the payload of `elements` elements; the most there can be, where that depends on their values. */
  payloadBytes(spec: CodecSpec, dtype: DType, elements: number): number;
  /** Every length that the payload can have, ascending, where there is more than one. */
  payloadSizes?(spec: CodecSpec, dtype: DType, elements: number): readonly number[];
  /** How many of a payload's bytes are scale data; they come first. */
  scaleBytes(spec: CodecSpec, dtype: DType, elements: number): number;
  /**
   * The payload is as long as the source, in parts that packing makes smaller: a policy takes the codec all the same,
   * and its payloads are always packed where they can be.
   */
  readonly packs?: true;
  /** Lengths of the parts of a payload that are packed each by itself; by default its scale data, and the rest. */
  segments?(spec: CodecSpec, dtype: DType, elements: number): readonly number[];
  /**
   * Encodes `elements` elements of `dtype` from `source` into the beginning of `target`.
   * @param at where they lie; by default at the beginning of a tensor of no name.
   */
  encode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    source: Uint8Array,
    target: Uint8Array,
    at?: ChunkPosition,
  ): Encoded;
  /**
   * Decodes `payload`, made from `elements` elements of `dtype`, into the beginning of `target` as `output`.
   * Narrowing rounds to nearest, ties to even.
   * @throws TensorwireError `PAYLOAD_INVALID` where the length is not that of such a payload, or where what the payload
   * says of itself does not fit its length.
   */
  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void;
  /**
   * Whether a payload holds nothing but finite values, where that can be told without decoding it.
   * @throws TensorwireError `PAYLOAD_INVALID` where the length is not that of such a payload.
   */
  finite?(spec: CodecSpec, dtype: DType, elements: number, payload: Uint8Array): boolean | undefined;
}
