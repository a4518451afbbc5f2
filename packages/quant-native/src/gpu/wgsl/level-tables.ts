import {
  DYNAMIC8,
  DYNAMIC8_THRESHOLDS,
  FP4,
  FP4_CODES,
  FP4_THRESHOLDS,
  NF4,
  NF4_THRESHOLDS,
} from "@tensorwire/core";

/** Where the parts of a codec's table lie, from its beginning on, in words. */
export const THRESHOLDS_AT = 0;
export const CODES_AT = 256;
export const VALUES_AT = 512;
const TABLE_WORDS = 768;

/** Where each codec's table begins in `LEVEL_TABLES`; nested scales are those of `blockwise8`. */
export const TABLES = { blockwise8: 0, normfloat4: TABLE_WORDS, float4: 2 * TABLE_WORDS } as const;

/** All tables of levels, made of core's codebooks: 3 × 3 KiB. */
export const LEVEL_TABLES: Uint32Array<ArrayBuffer> = new Uint32Array(3 * TABLE_WORDS);

const bitsOf = (values: readonly number[]): Uint32Array => new Uint32Array(Float32Array.from(values).buffer);

/** Integers that compare as the floats do. */
const ordered = (bits: number): number => {
  const word = bits | 0;
  return word ^ ((word >> 31) & 0x7fffffff);
};

/**
 * @param thresholds ascending bits, one less than a power of two.
 * @param codes that of a value that is greater than so many thresholds.
 */
function fill(at: number, thresholds: Iterable<number>, codes: readonly number[], values: readonly number[]) {
  LEVEL_TABLES.set(Int32Array.from(thresholds, ordered), at + THRESHOLDS_AT);
  LEVEL_TABLES.set(codes, at + CODES_AT);
  LEVEL_TABLES.set(bitsOf(values), at + VALUES_AT);
}

fill(TABLES.blockwise8, bitsOf(DYNAMIC8_THRESHOLDS), [...DYNAMIC8.keys()], DYNAMIC8);
fill(TABLES.normfloat4, bitsOf(NF4_THRESHOLDS), [...NF4.keys()], NF4);

// FP4 compares magnitudes, strictly: x < −t is what is not greater than the float below −t, and below zero is what is
// not greater than the smallest subnormal's negative.
const magnitudes = bitsOf(FP4_THRESHOLDS);
const negative = [...magnitudes].reverse().map((bits) => (bits + 1) | 0x80000000);
const fp4Codes = [...[...FP4_CODES].reverse().map((code) => code + 8), ...FP4_CODES];
fill(TABLES.float4, [...negative, 0x80000001, ...magnitudes], fp4Codes, FP4);
