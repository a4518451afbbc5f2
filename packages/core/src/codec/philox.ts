// As signed integers: V8 computes with larger ones as with doubles.
const MULTIPLIER0 = 0xd2511f53 | 0;
const MULTIPLIER1 = 0xcd9e8d57 | 0;
const WEYL0 = 0x9e3779b9 | 0;
const WEYL1 = 0xbb67ae85 | 0;
const ROUNDS = 10;

/** Two words and four, u32 each, the least significant first. */
export type PhiloxKey = readonly [number, number];
/** The counter's four words, lowest first. */
export type PhiloxCounter = readonly [number, number, number, number];

/**
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11): four random words
 * for each counter, which depend on nothing but key and counter.
 * @param first the first counter; the next ones count on in its lower two words.
 * @param words takes four words for each of as many counters as it has room for.
 * @example
 * const words = new Uint32Array(4);
 * philox4x32([0, 0], [0, 0, 0, 0], words);
 * console.log(words[0]?.toString(16)); // 6627e8d5
 */
export function philox4x32(key: PhiloxKey, first: PhiloxCounter, words: Uint32Array): void {
  const [low, high, upper0, upper1] = first;
  for (let at = 0; at + 4 <= words.length; at += 4) {
    const counted = low + at / 4;
    let c0 = counted | 0;
    let c1 = counted < 2 ** 32 ? high | 0 : (high + 1) | 0;
    let c2 = upper0 | 0;
    let c3 = upper1 | 0;
    let k0 = key[0] | 0;
    let k1 = key[1] | 0;
    for (let round = 0; round < ROUNDS; round++) {
      const high0 = upperProduct(c0, MULTIPLIER0);
      const high1 = upperProduct(c2, MULTIPLIER1);
      const low0 = Math.imul(c0, MULTIPLIER0);
      const low1 = Math.imul(c2, MULTIPLIER1);
      c0 = high1 ^ c1 ^ k0;
      c1 = low1;
      c2 = high0 ^ c3 ^ k1;
      c3 = low0;
      k0 = (k0 + WEYL0) | 0;
      k1 = (k1 + WEYL1) | 0;
    }
    words[at] = c0;
    words[at + 1] = c1;
    words[at + 2] = c2;
    words[at + 3] = c3;
  }
}

/** The upper 32 bits of the product of two u32. From halves: JavaScript multiplies 32 bits, or a BigInt's, slowly. */
function upperProduct(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Neither sum is above 2³² − 1.
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const carried = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carried >>> 16)) | 0;
}

/**
 * The two u32 of a u64, the lower one first.
 * @example
 * console.log(halvesOf(0x1_0000_0002n).join(" ")); // 2 1
 */
export function halvesOf(word: bigint): [number, number] {
  return [Number(BigInt.asUintN(32, word)), Number(BigInt.asUintN(32, word >> 32n))];
}
