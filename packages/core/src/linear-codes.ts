import { drawRun } from "./codec/element-draws.js";
import { loadRun, RUN } from "./codec/float-run.js";
import { isScale } from "./codec/linear-parameters.js";
import { ROUND } from "./codec/rounding.js";
import { isSeed, keyOf } from "./codec/seed.js";
import type { FloatDType } from "./dtype.js";
import { quote, TensorwireError } from "./errors.js";
import { xxh64 } from "./hash.js";

// Codes of linearN with a shared scale as whole numbers modulo 2^32: docs/codecs.md, "Secure aggregation".

/** How values become codes; the same at every client, but for the seed. */
export interface LinearCodes {
  /** What a step of one is worth. */
  readonly scale: number;
  /** Codes lie between −(2^(bits − 1) − 1) and 2^(bits − 1) − 1. */
  readonly bits: number;
  /** 16 hexadecimal digits: rounds stochastically, by them. Else to nearest, ties to even. */
  readonly seed?: string | undefined;
}

/** Where a run of codes lies: what stochastic rounding draws by. */
export interface LinearPosition {
  /** The tensor's name. */
  readonly tensor: string;
  /** Index of the run's first element in its tensor. */
  readonly first: number;
}

/** What was found in a run of values. */
export interface LinearFindings {
  /** Finite elements beyond the outermost codes. */
  readonly clamped: number;
  /** Index in the run of the first element that is NaN, infinite or outside the range of f32; it has the code 0. */
  readonly nonFinite: number | undefined;
}

const codes = new Int32Array(RUN);
const codeBytes = new Uint8Array(codes.buffer);
const utf8 = new TextEncoder();

/** Refuses parameters that no client could encode by. @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkLinearCodes({ scale, bits, seed }: LinearCodes): void {
  if (!Number.isInteger(bits) || bits < 2 || bits > 31) {
    throw invalid(`codes have 2 to 31 bits, not ${bits}`);
  }
  checkLinearScale(scale);
  if (!Number.isFinite(Math.fround(outermost(bits) * Math.fround(scale)))) {
    throw invalid(
      `a scale of ${scale} takes codes of ${bits} bits out of the range of f32: choose a smaller one`,
    );
  }
  if (seed !== undefined && !isSeed(seed)) {
    throw invalid(`a seed is 16 hexadecimal digits in lower case, not ${quote(String(seed))}`);
  }
}

/** Refuses a scale that is not positive and finite. @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkLinearScale(scale: number): void {
  if (isScale(scale)) return;
  throw invalid(`a scale is a positive number that f32 has, and 1 / scale too, not ${String(scale)}`);
}

/** The code furthest from that of zero. */
function outermost(bits: number): number {
  return 2 ** (bits - 1) - 1;
}

/**
 * Codes of `elements` elements, modulo 2^32, as little-endian u32.
 * @param target takes four bytes for each.
 * @example
 * const codes = { scale: 2 ** -8, bits: 16 };
 * checkLinearCodes(codes);
 * checkLinearScale(codes.scale);
 * const [values, ring] = [bytesOf(Float32Array.of(0.5, -0.25)), new Uint32Array(2)];
 * encodeLinearCodes(codes, "F32", 2, values, bytesOf(ring), { tensor: "x", first: 0 });
 * console.log(ring.join(" ")); // 128 4294967232
 * const back = new Float32Array(2);
 * decodeLinearCodes(codes.scale, 1, 2, bytesOf(ring), "F32", bytesOf(back));
 * console.log(back.join(" ")); // 0.5 -0.25
 */
export function encodeLinearCodes(
  { scale, bits, seed }: LinearCodes,
  dtype: FloatDType,
  elements: number,
  source: Uint8Array,
  target: Uint8Array,
  { tensor, first }: LinearPosition,
): LinearFindings {
  const inverse = Math.fround(1 / Math.fround(scale));
  const most = outermost(bits);
  const key = seed === undefined ? undefined : keyOf(seed);
  const name = xxh64(utf8.encode(tensor));
  let clamped = 0;
  let nonFinite: number | undefined;
  for (let done = 0; done < elements; done += RUN) {
    const run = loadRun(dtype, source, done, Math.min(RUN, elements - done));
    const draws = key && drawRun(key, name, first + done, run.length);
    for (let i = 0; i < run.length; i++) {
      const x = run[i]!;
      if (x - x !== 0) {
        nonFinite ??= done + i;
        codes[i] = 0;
        continue;
      }
      const t = Math.fround(x * inverse);
      let q: number;
      if (draws) {
        q = Math.floor(t);
        // A float32 as it is for linearN: only near zero is the difference not one. Of what overflowed there is no
        // fraction: NaN, which nothing is below.
        if (draws[i]! >>> 8 < Math.fround(t - q) * 2 ** 24) q++;
      } else {
        q = t + ROUND - ROUND;
      }
      if (q > most || q < -most) {
        q = q > 0 ? most : -most;
        clamped++;
      }
      codes[i] = q;
    }
    target.set(codeBytes.subarray(0, 4 * run.length), 4 * done);
  }
  return { clamped, nonFinite };
}

/**
 * What sums of codes stand for, divided by how many clients they come from: sum × scale / clients in binary64, with the sum
 * the number from −2^31 to 2^31 − 1 that is the same modulo 2^32.
 * @param target takes `elements` of `output`.
 */
export function decodeLinearCodes(
  scale: number,
  clients: number,
  elements: number,
  sums: Uint8Array,
  output: "F32" | "F64",
  target: Uint8Array,
): void {
  const s = Math.fround(scale);
  const values = output === "F32" ? new Float32Array(RUN) : new Float64Array(RUN);
  const bytes = new Uint8Array(values.buffer);
  for (let done = 0; done < elements; done += RUN) {
    const count = Math.min(RUN, elements - done);
    codeBytes.set(sums.subarray(4 * done, 4 * (done + count)));
    for (let i = 0; i < count; i++) values[i] = (codes[i]! * s) / clients;
    const width = values.BYTES_PER_ELEMENT;
    target.set(bytes.subarray(0, width * count), width * done);
  }
}

function invalid(message: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message);
}
