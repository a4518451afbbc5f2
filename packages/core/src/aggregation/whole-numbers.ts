import { byteLength, type DType } from "../dtype.js";

/** Dtypes of whole numbers: what can be averaged and compared. `BOOL` is 0, or 1 for anything else. */
export const WHOLE_DTYPES = ["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"] as const;
/** A dtype of whole numbers, or of truth values. */
export type WholeDType = (typeof WHOLE_DTYPES)[number];

/**
 * Whether a dtype is of whole numbers.
 * @example
 * console.log(isWholeDType("I64"), isWholeDType("F32")); // true false
 */
export function isWholeDType(dtype: DType): dtype is WholeDType {
  return (WHOLE_DTYPES as readonly DType[]).includes(dtype);
}

type Small = Uint8Array | Int8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;
type Large = BigInt64Array | BigUint64Array;

const VIEWS = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  I16: Int16Array,
  U16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
} as const;

/** Elements at once. Sources may lie at any address: each run is copied to where it is aligned. */
const RUN = 4096;
const ours = new ArrayBuffer(8 * RUN);
const theirs = new ArrayBuffer(8 * RUN);

/** Calls `work` with runs of both, as numbers, and writes ours back where it says so. */
function eachRun(
  dtype: WholeDType,
  elements: number,
  target: Uint8Array,
  source: Uint8Array | undefined,
  work: (mine: Small | Large, other: Small | Large, first: number) => boolean,
): void {
  const width = byteLength(dtype, 1);
  for (let first = 0; first < elements; first += RUN) {
    const count = Math.min(RUN, elements - first);
    const [begin, end] = [width * first, width * (first + count)];
    const bytes = new Uint8Array(ours, 0, end - begin);
    bytes.set(target.subarray(begin, end));
    if (source) new Uint8Array(theirs).set(source.subarray(begin, end));
    const View = VIEWS[dtype];
    const mine = new View(ours, 0, count);
    const other = new View(theirs, 0, count);
    if (dtype === "BOOL") asBits(mine as Uint8Array, other as Uint8Array);
    if (work(mine, other, first)) target.set(bytes, begin);
  }
}

function asBits(...runs: readonly Uint8Array[]): void {
  for (const run of runs) for (let i = 0; i < run.length; i++) if (run[i]! > 1) run[i] = 1;
}

/**
 * Element by element the greater one of `target` and `source`, in `target`.
 * @example
 * const mine = Int32Array.of(1, 5);
 * takeGreater("I32", 2, bytesOf(mine), bytesOf(Int32Array.of(3, 2)));
 * console.log(mine.join(" ")); // 3 5
 */
export function takeGreater(
  dtype: WholeDType,
  elements: number,
  target: Uint8Array,
  source: Uint8Array,
): void {
  eachRun(dtype, elements, target, source, (mine, other) => {
    for (let i = 0; i < mine.length; i++) if (other[i]! > mine[i]!) mine[i] = other[i]!;
    return true;
  });
}

/**
 * Adds what `source` is away from `base`, times `weight`, to `sums`. Of differences the mean is exact where numbers agree,
 * however large they are.
 * @example
 * // The mean of 10 and 13, each of weight one half.
 * const [base, sums] = [Int32Array.of(10), new Float64Array(1)];
 * addDifferences("I32", 1, bytesOf(base), bytesOf(Int32Array.of(13)), 0.5, sums);
 * addRounded("I32", 1, bytesOf(base), sums);
 * console.log(base[0]); // 12
 */
export function addDifferences(
  dtype: WholeDType,
  elements: number,
  base: Uint8Array,
  source: Uint8Array,
  weight: number,
  sums: Float64Array,
): void {
  eachRun(dtype, elements, base, source, (mine, other, first) => {
    for (let i = 0; i < mine.length; i++) {
      if (mine[i] === other[i]) continue;
      sums[first + i]! += weight * Number((other[i] as never) - (mine[i] as never));
    }
    return false;
  });
}

/** Adds the sums of `addDifferences` to the numbers that they are differences from, rounded to nearest, ties to even. */
export function addRounded(dtype: WholeDType, elements: number, base: Uint8Array, sums: Float64Array): void {
  const [least, most] = rangeOf(dtype);
  eachRun(dtype, elements, base, undefined, (mine, _, first) => {
    for (let i = 0; i < mine.length; i++) {
      if (sums[first + i] === 0) continue;
      const difference = rounded(sums[first + i]!, BigInt.asUintN(1, BigInt(mine[i]!)) === 1n);
      if (difference === 0) continue;
      const sum = BigInt(mine[i]!) + BigInt(difference);
      const value = sum < least ? least : sum > most ? most : sum;
      mine[i] = (typeof mine[i] === "bigint" ? value : Number(value)) as never;
    }
    return true;
  });
}

function rangeOf(dtype: WholeDType): readonly [bigint, bigint] {
  if (dtype === "BOOL") return [0n, 1n];
  const bits = BigInt(8 * byteLength(dtype, 1));
  return dtype.startsWith("U") ? [0n, 2n ** bits - 1n] : [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n];
}

/** The difference that makes the nearest number, and of two that are as near the even one. */
function rounded(difference: number, fromOdd: boolean): number {
  const below = Math.floor(difference);
  const rest = difference - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return (below % 2 !== 0) === fromOdd ? below : below + 1;
}

/**
 * Adds U32 or I32 elements modulo 2^32.
 * @example
 * const sums = Uint32Array.of(0xffff_ffff);
 * addModulo32(1, bytesOf(sums), bytesOf(Uint32Array.of(2)));
 * console.log(sums[0]); // 1
 */
export function addModulo32(elements: number, target: Uint8Array, source: Uint8Array): void {
  eachRun("U32", elements, target, source, (mine, other) => {
    for (let i = 0; i < mine.length; i++) (mine as Uint32Array)[i]! += (other as Uint32Array)[i]!;
    return true;
  });
}
