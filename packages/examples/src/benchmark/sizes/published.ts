import type { CodecSpec } from "@tensorwire/stream";

/** A row of the table that NVFlare publishes of quantized Llama-3.2-1B, in MiB. */
export interface PublishedSize {
  readonly precision: string;
  readonly payload: string;
  /** Scales, and the codebook that NVFlare sends with each tensor. */
  readonly meta: string;
  readonly codecs: readonly CodecSpec[];
  /** Values in that codebook, F32 each. */
  readonly codebook: number;
}

export const PUBLISHED_SIZES: readonly PublishedSize[] = [
  { precision: "32 bits", payload: "5716.26", meta: "0.00", codecs: [{ name: "none" }], codebook: 0 },
  {
    precision: "16 bits",
    payload: "2858.13",
    meta: "0.00",
    codecs: [{ name: "float16" }, { name: "bfloat16" }],
    codebook: 0,
  },
  {
    precision: "8 bits",
    payload: "1429.06",
    meta: "1.54",
    codecs: [{ name: "blockwise8" }],
    codebook: 256,
  },
  {
    precision: "4 bits",
    payload: "714.53",
    meta: "89.33",
    codecs: [{ name: "float4" }, { name: "normfloat4" }],
    codebook: 16,
  },
];
