import type { CodecSpec, FloatDType } from "@tensorwire/core";

/** What encoding and decoding must reach on one thread through the addon, as a share of memcpy's speed. */
export interface Bars {
  readonly encode: number;
  readonly decode: number;
}

/** A codec with its parameters, from one dtype. */
export interface CodecCase {
  readonly label: string;
  readonly spec: CodecSpec;
  readonly dtype: FloatDType;
  /** None where the codec is only reported. */
  readonly bars?: Bars;
}

/** What two threads must reach of one, what the portable codecs must in GB/s, and nested scales of plain ones. */
export const TWO_THREADS_BAR = 1.6;
export const PORTABLE_BAR = 0.15;
export const NESTED_BAR = 0.9;

const FOUR_BIT: Bars = { encode: 0.95, decode: 1.7 };
const LINEAR: Bars = { encode: 0.4, decode: 0.6 };
const LOSSLESS: Bars = { encode: 0.15, decode: 0.3 };

const f32 = (label: string, spec: CodecSpec, bars?: Bars): CodecCase => ({
  label,
  spec,
  dtype: "F32",
  ...(bars && { bars }),
});

export const NORMFLOAT4 = "normfloat4";
export const NESTED = "normfloat4 nested";

export const CODEC_CASES: readonly CodecCase[] = [
  f32("none", { name: "none" }),
  f32("float16", { name: "float16" }, { encode: 1.5, decode: 1.2 }),
  f32("bfloat16", { name: "bfloat16" }, { encode: 1.2, decode: 1.2 }),
  f32("blockwise8", { name: "blockwise8" }, { encode: 0.65, decode: 1.1 }),
  f32("float4", { name: "float4" }, FOUR_BIT),
  f32(NORMFLOAT4, { name: "normfloat4" }, FOUR_BIT),
  f32(NESTED, { name: "normfloat4", nested: true }),
  ...[2, 3, 4, 5, 6, 7].map((bits) => f32(`linear${bits}`, { name: `linear${bits}` }, LINEAR)),
  f32("linear8", { name: "linear8" }, { encode: 0.9, decode: 1.2 }),
  f32("linear8 affine", { name: "linear8", mode: "affine" }),
  f32("linear8 stochastic", { name: "linear8", rounding: "stochastic", seed: "0123456789abcdef" }),
  f32("adaquant", { name: "adaquant" }),
  f32("lossless", { name: "lossless" }, LOSSLESS),
  { label: "lossless of BF16", spec: { name: "lossless" }, dtype: "BF16", bars: LOSSLESS },
];
