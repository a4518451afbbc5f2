import { DTYPE_BITS, type DType } from "../dtype.js";

/** Index of the first byte that differs, -1 where none does; a missing byte differs. */
export function firstDifference(left: Uint8Array, right: Uint8Array): number {
  const shared = Math.min(left.length, right.length);
  // Four bytes at a time, wherever they begin: the suites compare gigabytes.
  const words = shared - (shared % 4);
  const leftWords = new DataView(left.buffer, left.byteOffset, words);
  const rightWords = new DataView(right.buffer, right.byteOffset, words);
  let at = 0;
  while (at < words && leftWords.getUint32(at) === rightWords.getUint32(at)) at += 4;
  while (at < shared && left[at] === right[at]) at++;
  return at < shared || left.length !== right.length ? at : -1;
}

/** Exponent bits and sign bit of each float dtype's uppermost two bytes. */
const EXPONENT: Partial<Record<DType, number>> = { F16: 0x7c00, BF16: 0x7f80, F32: 0x7f80, F64: 0x7ff0 };

/**
 * Index of the first element whose bits differ, -1 where none does. Any NaN equals any other, since what a NaN computed
 * from numbers looks like is the processor's choice; zeros of different sign differ.
 * @example
 * const [a, b] = [encodeFloats("F32", Float32Array.of(1, 2)), encodeFloats("F32", Float32Array.of(1, 3))];
 * console.log(firstDifference(a, b), firstDifferentElement("F32", a, b)); // 6 1
 */
export function firstDifferentElement(dtype: DType, left: Uint8Array, right: Uint8Array): number {
  if (left.length !== right.length) return Math.floor(Math.min(left.length, right.length) / width(dtype));
  const size = width(dtype);
  for (let at = firstDifference(left, right); at >= 0; ) {
    const element = Math.floor(at / size);
    const begin = element * size;
    if (!holdsNaN(dtype, left, begin, size) || !holdsNaN(dtype, right, begin, size)) return element;
    const next = firstDifference(left.subarray(begin + size), right.subarray(begin + size));
    at = next < 0 ? -1 : begin + size + next;
  }
  return -1;
}

function width(dtype: DType): number {
  return Math.max(1, DTYPE_BITS[dtype] / 8);
}

function holdsNaN(dtype: DType, bytes: Uint8Array, at: number, size: number): boolean {
  const exponent = EXPONENT[dtype];
  if (exponent === undefined) return false;
  const upper = bytes[at + size - 2]! | (bytes[at + size - 1]! << 8);
  if ((upper & exponent) !== exponent) return false;
  // An infinity has no other bit but its sign.
  if ((upper & 0x7fff) !== exponent) return true;
  return bytes.subarray(at, at + size - 2).some((byte) => byte !== 0);
}
