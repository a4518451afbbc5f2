import { RUN } from "./float-run.js";
import { halvesOf, type PhiloxKey, philox4x32 } from "./philox.js";

// Draws come in fours, and a run may begin within four. One scratch for all: codecs are synchronous.
const words = new Uint32Array(RUN + 4);

/**
 * The random words of elements `first` … of a tensor: element e has word e mod 4 of counter e / 4. In memory that the next
 * call overwrites.
 * @param tensor xxh64 of its name.
 * @param count at most `RUN`.
 */
export function drawRun(key: PhiloxKey, tensor: bigint, first: number, count: number): Uint32Array {
  const skipped = first % 4;
  const counter = (first - skipped) / 4;
  const groups = Math.ceil((skipped + count) / 4);
  const start = [counter >>> 0, Math.floor(counter / 2 ** 32), ...halvesOf(tensor)] as const;
  philox4x32(key, start, words.subarray(0, 4 * groups));
  return words.subarray(skipped, skipped + count);
}
