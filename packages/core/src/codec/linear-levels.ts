// The arithmetic of uniform levels over one run of float32 values: docs/codecs.md, "linear2 … linear8". A code is the
// level's number, counted from the least one.

import { ROUND } from "./rounding.js";

/** A run's blocks are looked at as integers: of floats without sign, in the same order, NaN above infinity. */
const INFINITY_BITS = 0x7f800000;
const NEGATIVE_INFINITY_KEY = ~INFINITY_BITS;

const single = new Float32Array(1);
const singleBits = new Int32Array(single.buffer);

function fromBits(bits: number): number {
  singleBits[0] = bits;
  return single[0]!;
}

/** Least and largest of a block's values; `finite` says whether there is neither a NaN nor an infinity. */
export interface Extent {
  least: number;
  largest: number;
  finite: boolean;
}

/** The extent of the magnitudes of `bits[begin … end - 1]`, the floats' bits; `least` is not looked for. */
export function magnitudes(bits: Int32Array, begin: number, end: number, found: Extent): void {
  let largest = 0;
  for (let i = begin; i < end; i++) {
    const magnitude = bits[i]! & 0x7fffffff;
    if (magnitude > largest) largest = magnitude;
  }
  found.least = 0;
  found.largest = fromBits(largest);
  found.finite = largest < INFINITY_BITS;
}

/** The extent of the values of `bits[begin … end - 1]`, the floats' bits; `least` is never −0. */
export function extent(bits: Int32Array, begin: number, end: number, found: Extent): void {
  let least = 0x7fffffff;
  let largest = -0x80000000;
  for (let i = begin; i < end; i++) {
    const word = bits[i]!;
    // Negative floats in the reverse order of their magnitudes: then integers compare as the floats do.
    const key = word ^ ((word >> 31) & 0x7fffffff);
    if (key < least) least = key;
    if (key > largest) largest = key;
  }
  found.least = fromBits(least ^ ((least >> 31) & 0x7fffffff)) + 0;
  found.largest = fromBits(largest ^ ((largest >> 31) & 0x7fffffff));
  found.finite = least > NEGATIVE_INFINITY_KEY && largest < INFINITY_BITS;
}

/** How a run of values becomes codes: level q stands for q × 1 / `inverse` + `offset`, and has the code q − `least`. */
export interface Levels {
  readonly inverse: number;
  readonly offset: number;
  readonly least: number;
  readonly most: number;
}

/** Codes of the nearest levels, ties to even; gives how many values lie beyond the outermost levels. */
export function nearest(
  run: Float32Array,
  begin: number,
  end: number,
  { inverse, offset, least, most }: Levels,
  codes: Uint8Array,
): number {
  let limited = 0;
  for (let i = begin; i < end; i++) {
    // The double sum and product of two float32, rounded, are the float32 ones.
    const t = Math.fround(Math.fround(run[i]! - offset) * inverse);
    let q = t + ROUND - ROUND;
    if (q > most) {
      q = most;
      limited++;
    } else if (q < least) {
      q = least;
      limited++;
    }
    codes[i] = q - least;
  }
  return limited;
}

/**
 * Codes of one of the two levels around each value, the upper one with a probability as large as the value is near it;
 * gives how many would have been beyond the outermost levels.
 * @param draws a random word for each value, of which the upper 24 bits count.
 */
export function stochastic(
  run: Float32Array,
  begin: number,
  end: number,
  { inverse, offset, least, most }: Levels,
  draws: Uint32Array,
  codes: Uint8Array,
): number {
  let limited = 0;
  for (let i = begin; i < end; i++) {
    const t = Math.fround(Math.fround(run[i]! - offset) * inverse);
    const floor = Math.floor(t);
    // Draws below this go up. The sign of a difference says it: a branch would be mispredicted every other time. Of what
    // overflowed there is no fraction, but NaN, which gives 0.
    const below = Math.ceil(Math.fround(t - floor) * 2 ** 24) | 0;
    let q = floor + (((draws[i]! >>> 8) - below) >>> 31);
    if (q > most) {
      q = most;
      limited++;
    } else if (q < least) {
      q = least;
      limited++;
    }
    codes[i] = q - least;
  }
  return limited;
}
