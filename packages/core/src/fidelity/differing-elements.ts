import { byteLength, DTYPE_BITS, type DType } from "../dtype.js";

/** A run of elements of any dtype: `first` and on of these bytes. */
export interface ElementRun {
  /** Of the whole tensor, or of a part that begins with whole bytes. */
  readonly bytes: Uint8Array;
  /** Of a dtype of less than a byte: at the beginning of one. */
  readonly first: number;
}

/**
 * How many of `elements` elements have other bits.
 * @example
 * const run = (...values: number[]) => ({ bytes: bytesOf(Float32Array.from(values)), first: 0 });
 * console.log(differingElements("F32", run(1, 2, 3), run(1, 2, 4), 3)); // 1
 */
export function differingElements(dtype: DType, a: ElementRun, b: ElementRun, elements: number): number {
  const bits = DTYPE_BITS[dtype];
  const bytes = byteLength(dtype, elements);
  const [fromA, fromB] = [byteLength(dtype, a.first), byteLength(dtype, b.first)];
  let differing = 0;
  // Groups of whole bytes: one element, or as many as fill some bytes together.
  const group = bits === 4 ? 1 : bits === 6 ? 3 : bits / 8;
  for (let at = 0; at < bytes; at += group) {
    let same = true;
    for (let k = 0; k < group; k++) if (a.bytes[fromA + at + k] !== b.bytes[fromB + at + k]) same = false;
    if (same) continue;
    if (bits >= 8) differing++;
    else differing += differingIn(bits, word(a.bytes, fromA + at, group) ^ word(b.bytes, fromB + at, group));
  }
  return differing;
}

/** Bytes as one number, the first lowest, as safetensors packs elements of less than a byte. */
function word(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let k = 0; k < count; k++) value |= bytes[at + k]! << (8 * k);
  return value;
}

/** How many elements of `bits` bits a difference touches. */
function differingIn(bits: number, difference: number): number {
  const mask = (1 << bits) - 1;
  let count = 0;
  for (let rest = difference; rest !== 0; rest >>>= bits) if (rest & mask) count++;
  return count;
}
