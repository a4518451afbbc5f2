import { quantizeBlocks } from "./absmax-block.js";
import { DYNAMIC8 } from "./codebook.js";
import { dynamic8 } from "./dynamic8.js";

/** Scales that share a scale of their own. */
export const NESTED_BLOCK = 256;

const LANES = 16;
const table = Float32Array.from(DYNAMIC8);

// Of one block of scales at a time: codecs are synchronous.
const differences = new Float32Array(NESTED_BLOCK);
const codes = new Uint8Array(NESTED_BLOCK + 1);
const single = new Float32Array(1);
const singleBytes = new Uint8Array(single.buffer);

/** Bytes of `count` scales in 8 bits each: an offset, a scale for each 256 of them, their codes. */
export function nestedBytes(count: number): number {
  return count === 0 ? 0 : codesAt(count) + count;
}

function codesAt(count: number): number {
  return 4 + 4 * Math.ceil(count / NESTED_BLOCK);
}

/**
 * The mean of scales that are not all there at once, from a float32 sum in an order that suits vectors of any
 * width.
 * @example
 * const scales = Float32Array.of(1, 2, 3);
 * const mean = new ScaleMean();
 * for (const scale of scales) mean.add(scale);
 * const payload = new Uint8Array(nestedBytes(scales.length));
 * writeOffset(mean.offset(), payload);
 * writeNestedBlock(scales.slice(), 0, scales.length, mean.offset(), payload);
 * const read = new Float32Array(3);
 * readNestedScales(payload, 0, scales.length, read);
 * console.log(mean.offset(), read[1], read[2]); // 2 2 3
 */
export class ScaleMean {
  readonly #lanes = new Float32Array(LANES);
  #count = 0;

  /** Counts a scale in. */
  add(scale: number): void {
    this.#lanes[this.#count++ % LANES]! += scale;
  }

  /** The offset of the scales that were added; 0 where it would not be finite. */
  offset(): number {
    const lanes = this.#lanes.slice();
    for (let width = LANES / 2; width >= 1; width /= 2) {
      for (let lane = 0; lane < width; lane++) lanes[lane]! += lanes[lane + width]!;
    }
    const offset = Math.fround(lanes[0]! / Math.fround(this.#count));
    return Number.isFinite(offset) ? offset : 0;
  }
}

/** Writes what all scales have in common to the beginning of a payload. */
export function writeOffset(offset: number, target: Uint8Array): void {
  single[0] = offset;
  target.set(singleBytes);
}

/**
 * Writes a block of scales in 8 bits each into a payload.
 * @param first index of the first of them: a multiple of 256.
 * @param count how many there are in the payload.
 */
export function writeNestedBlock(
  scales: Float32Array,
  first: number,
  count: number,
  offset: number,
  target: Uint8Array,
): void {
  const run = differences.subarray(0, scales.length);
  for (let i = 0; i < run.length; i++) run[i] = scales[i]! - offset;
  quantizeBlocks(run, NESTED_BLOCK, dynamic8, single, 0, codes);
  target.set(singleBytes, 4 + 4 * (first / NESTED_BLOCK));
  target.set(codes.subarray(0, run.length), codesAt(count) + first);
}

/** Reads scales `first` … of a payload that has `count`, one into each element of `scales`. */
export function readNestedScales(
  payload: Uint8Array,
  first: number,
  count: number,
  scales: Float32Array,
): void {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const offset = view.getFloat32(0, true);
  const codeAt = codesAt(count) + first;
  for (let i = 0; i < scales.length; i++) {
    const nested = view.getFloat32(4 + 4 * Math.floor((first + i) / NESTED_BLOCK), true);
    // The product is rounded before the offset is added.
    scales[i] = Math.fround(table[payload[codeAt + i]!]! * nested) + offset;
  }
}
