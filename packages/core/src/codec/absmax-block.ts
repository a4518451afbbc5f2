import type { LevelSearch } from "./level-search.js";

const FLT_MAX = 3.4028234663852886e38;
const zero = new Float32Array(1);
const padding = new Uint8Array(1);

/** The scale of elements `begin` … `end - 1`, a block of `block` elements or the beginning of one. */
export function absmax(run: Float32Array, begin: number, end: number, block: number): number {
  // A short block is padded with zeros, so that its scale is never below zero.
  let largest = end - begin < block ? 0 : -FLT_MAX;
  for (let i = begin; i < end; i++) {
    const magnitude = Math.abs(run[i]!);
    // NaN is passed over, as C's fmaxf does.
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

/**
 * Fills `scales` from `first` on, and `codes`, from a run that begins with a block; gives the number of blocks. A run
 * that ends within a block has one more code: that of a padding +0.
 */
export function quantizeBlocks(
  run: Float32Array,
  block: number,
  levels: LevelSearch,
  scales: Float32Array,
  first: number,
  codes: Uint8Array,
): number {
  const count = run.length;
  let blocks = 0;
  for (let begin = 0; begin < count; begin += block) {
    const end = Math.min(count, begin + block);
    const scale = absmax(run, begin, end, block);
    scales[first + blocks++] = scale;
    // Once a block, then multiplied: dividing each element gives other codes. The double quotient of two float32
    // rounds to the float32 one.
    const inverse = Math.fround(1 / scale);
    levels.search(run, inverse, begin, end, codes);
    if (end - begin < block) {
      levels.search(zero, inverse, 0, 1, padding);
      codes[count] = padding[0]!;
    }
  }
  return blocks;
}
