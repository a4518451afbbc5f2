// The tables of bitsandbytes' 8- and 4-bit formats, as bit patterns, since decimals that pass through a double round
// to the wrong float for four of the NF4 thresholds. Source: csrc/kernels.cu and create_dynamic_map of bitsandbytes
// 0.50.1, checked against its own output in test/vectors. Everything that needs them, the C header of the native
// kernels included, takes them from here.

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function fromBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

function toBits(value: number): number {
  float[0] = value;
  return word[0]!;
}

/** The largest float32 below a finite, non-zero float32. */
function below(value: number): number {
  return fromBits(value > 0 ? toBits(value) - 1 : toBits(value) + 1);
}

/** Positive half of the dynamic map: entries 128 to 255. */
// biome-ignore format: eight words a row, as in the table's published dumps
const DYNAMIC8_POSITIVE = [
  0x3513a3b7, 0x365a1a94, 0x370205ff, 0x37b24206, 0x38378034, 0x388aefb3, 0x38ba1f4b, 0x3923d70b,
  0x398ce705, 0x39c7e283, 0x3a016f01, 0x3a1eecc1, 0x3a3c6a80, 0x3a59e83e, 0x3a7765ff, 0x3aa7ef9d,
  0x3af1a9fc, 0x3b1db22d, 0x3b428f5c, 0x3b676c8a, 0x3b8624dd, 0x3b989374, 0x3bab020d, 0x3bbd70a4,
  0x3bcfdf3b, 0x3be24dd3, 0x3bf4bc6a, 0x3c039581, 0x3c0ccccd, 0x3c160418, 0x3c1f3b64, 0x3c3ae148,
  0x3c68f5c3, 0x3c8b851f, 0x3ca28f5d, 0x3cb9999a, 0x3cd0a3d7, 0x3ce7ae15, 0x3cfeb852, 0x3d0ae148,
  0x3d166667, 0x3d21eb85, 0x3d2d70a3, 0x3d38f5c3, 0x3d447ae1, 0x3d500000, 0x3d5b851f, 0x3d670a3d,
  0x3d728f5d, 0x3d7e147b, 0x3d84cccd, 0x3d8a8f5d, 0x3d9051eb, 0x3d96147b, 0x3d9bd70a, 0x3da1999a,
  0x3da75c2a, 0x3dad1eb8, 0x3db2e148, 0x3db8a3d7, 0x3dbe6667, 0x3dc428f7, 0x3dc9eb85, 0x3ddb3334,
  0x3df80000, 0x3e0a6666, 0x3e18cccd, 0x3e273333, 0x3e35999a, 0x3e440000, 0x3e526666, 0x3e60cccd,
  0x3e6f3333, 0x3e7d9999, 0x3e860000, 0x3e8d3334, 0x3e946666, 0x3e9b999a, 0x3ea2cccc, 0x3eaa0000,
  0x3eb13333, 0x3eb86666, 0x3ebf999a, 0x3ec6cccc, 0x3ece0000, 0x3ed53333, 0x3edc6666, 0x3ee3999a,
  0x3eeacccc, 0x3ef20000, 0x3ef93332, 0x3f003333, 0x3f03cccc, 0x3f076666, 0x3f0b0000, 0x3f0e999a,
  0x3f123334, 0x3f15cccd, 0x3f196666, 0x3f1d0000, 0x3f20999a, 0x3f243334, 0x3f27cccd, 0x3f2b6666,
  0x3f2f0000, 0x3f32999a, 0x3f363334, 0x3f39cccd, 0x3f3d6666, 0x3f410000, 0x3f44999a, 0x3f483333,
  0x3f4bcccd, 0x3f4f6666, 0x3f530000, 0x3f56999a, 0x3f5a3333, 0x3f5dcccd, 0x3f616666, 0x3f650000,
  0x3f68999a, 0x3f6c3333, 0x3f6fcccd, 0x3f736666, 0x3f770000, 0x3f7a999a, 0x3f7e3333, 0x3f800000,
];

/**
 * bitsandbytes' signed dynamic map, in code order: 256 ascending float32 values. Entry 127 is +0, entry 255 is 1,
 * entry 254 - k is the negative of entry k; there is no -1.
 */
export const DYNAMIC8: readonly number[] = Object.freeze([
  ...DYNAMIC8_POSITIVE.slice(0, 127)
    .map((bits) => -fromBits(bits))
    .reverse(),
  0,
  ...DYNAMIC8_POSITIVE.map(fromBits),
]);

/** Decision points of the dynamic map, f32((code[i] + code[i + 1]) / 2) for i = 0 … 254. A tie goes to the even code. */
export const DYNAMIC8_MIDPOINTS: readonly number[] = Object.freeze(
  DYNAMIC8.slice(1).map((upper, i) => Math.fround(Math.fround(DYNAMIC8[i]! + upper) * 0.5)),
);

/**
 * The same decision points with the tie rule folded in: the code of x is the number of them that x is greater than.
 * Going from an odd code to an even one takes x >= midpoint, which is x > the float below it.
 */
export const DYNAMIC8_THRESHOLDS: readonly number[] = Object.freeze(
  DYNAMIC8_MIDPOINTS.map((midpoint, i) => (i % 2 === 0 ? midpoint : below(midpoint))),
);

/** bitsandbytes' NF4 values in code order: 16 ascending float32 values (QLoRA, arXiv 2305.14314, appendix E). */
export const NF4: readonly number[] = Object.freeze(
  [
    0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
    0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000,
  ].map(fromBits),
);

/** The NF4 code of x is the number of these 15 that x is greater than. */
export const NF4_THRESHOLDS: readonly number[] = Object.freeze(
  [
    0xbf591cd9, 0xbf1c5270, 0xbeeb8480, 0xbeadea76, 0xbe703cec, 0xbe0d38bc, 0xbd3a7871, 0x3d22faff,
    0x3df64863, 0x3e5067e0, 0x3e9582d4, 0x3ec753f9, 0x3f006d03, 0x3f248daf, 0x3f5c89d9,
  ].map(fromBits),
);

/** FP4 magnitudes by the low three bits of a code: 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 in float32. */
const FP4_MAGNITUDES = [
  0x00000000, 0x3baaaaab, 0x3f2aaaab, 0x3f800000, 0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000,
].map(fromBits);

/** bitsandbytes' FP4 values in code order: bit 3 is the sign, and code 8 is -0. */
export const FP4: readonly number[] = Object.freeze([
  ...FP4_MAGNITUDES,
  ...FP4_MAGNITUDES.map((magnitude) => -magnitude),
]);

/**
 * FP4 decision points on |x|: with c the number of these 7 that |x| is greater than, the code of x is
 * `FP4_CODES[c]`, plus 8 where x < 0. The sixth is not a midpoint: it is what bitsandbytes compares with.
 */
export const FP4_THRESHOLDS: readonly number[] = Object.freeze(
  [0x3b2aaab9, 0x3db00000, 0x3e555555, 0x3e955555, 0x3ed55556, 0x3f155550, 0x3f555555].map(fromBits),
);

/** Low three bits of the FP4 code of the smallest magnitude, the next, … the largest. */
export const FP4_CODES: readonly number[] = Object.freeze([0, 1, 6, 7, 4, 5, 2, 3]);
