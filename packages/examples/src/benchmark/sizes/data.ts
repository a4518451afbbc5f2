import type { CodecSpec, DType } from "@tensorwire/stream";
import type { EncodedSize } from "./planned.js";

/** What a codec makes of a model that really was encoded, in bits an element. */
export interface RealSize {
  readonly codec: CodecSpec;
  readonly bits: number;
  /** With `compress: "auto"`. */
  readonly packedBits: number;
}

export interface SizesOf {
  readonly dtype: DType;
  /** Of the shapes, by arithmetic. Codecs whose payloads depend on values are not in it. */
  readonly planned: readonly (EncodedSize & { readonly codec: CodecSpec })[];
  /** Of the trained model in that dtype. */
  readonly real: readonly RealSize[];
}

export interface SizesData {
  readonly tensors: number;
  readonly elements: number;
  /** What NVFlare publishes a table of, in bytes by codec. */
  readonly table: readonly (EncodedSize & { readonly codec: CodecSpec })[];
  readonly sources: readonly SizesOf[];
  readonly trained: { readonly name: string; readonly elements: number };
  /** A part of the shapes, encoded for what the arithmetic says of it. */
  readonly checked: {
    readonly tensors: number;
    readonly bytes: number;
    readonly codecs: number;
    /** Codecs that made something else of it. */
    readonly wrong: readonly string[];
  };
}
