import { byteLength, DTYPE_BITS, type DType, type FloatDType, isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { shown } from "./block-size.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import { checkElements, checkEncode, checkParameters, checkTarget, floatDType } from "./codec-arguments.js";
import { countNonFinite, loadDoubleRun, loadRun, RUN, storeRun } from "./float-run.js";
import { ROUND } from "./rounding.js";

const DEFAULT_WEIGHT = 0.01;
/** What precedes the codes: lo, norm, k, and 0. */
const HEAD_BYTES = 24;
const LOG4 = 1.3862943611198906;
const MOST_BITS = 32;

// Of one run at a time: codecs are synchronous.
const codes = new Uint32Array(RUN);
const values = new Float64Array(RUN);
const valueBytes = new Uint8Array(values.buffer);
const singles = new Float32Array(RUN);
const narrowed = new ArrayBuffer(4 * RUN);
const narrowedBytes = new Uint8Array(narrowed);
const narrow = { 1: new Uint8Array(narrowed), 2: new Uint16Array(narrowed), 4: new Uint32Array(narrowed) };

/** Bytes of a code; with none, all elements are equal. */
type Width = 0 | 1 | 2 | 4;

/**
 * Adaptive quantization (arXiv 2208.05174), as NVFlare's `ada_quant.py` computes it: uniform levels from a chunk's least
 * value to its largest, as many as its spread is worth. All arithmetic is float64.
 *
 * Payload: least value and spread (float64), bits of a code and 0 (u32), then the codes, of 1, 2 or 4 bytes each.
 */
class AdaQuant implements Codec {
  readonly name = "adaquant";
  readonly id = 6;

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, ["weight"]);
    return { name: this.name, weight: weightOf(spec) };
  }

  supports(dtype: DType): boolean {
    return isFloatDType(dtype);
  }

  payloadBytes(spec: CodecSpec, dtype: DType, elements: number): number {
    return this.payloadSizes(spec, dtype, elements).at(-1)!;
  }

  payloadSizes(_spec: CodecSpec, dtype: DType, elements: number): readonly number[] {
    const from = floatDType(this.name, dtype);
    checkElements(this.name, elements);
    if (elements === 0) return [0];
    return [0, ...widthsOf(from)].map((width) => HEAD_BYTES + width * elements);
  }

  scaleBytes(_spec: CodecSpec, dtype: DType, elements: number): number {
    floatDType(this.name, dtype);
    checkElements(this.name, elements);
    return elements === 0 ? 0 : HEAD_BYTES;
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const weight = weightOf(spec);
    checkEncode(this.name, dtype, elements, source, this.payloadBytes(spec, dtype, elements), target);
    const from = dtype as FloatDType;
    const scaleBytes = this.scaleBytes(spec, dtype, elements);
    const { least, largest, nonFinite } = chunkExtent(from, elements, source);
    const found = { scaleBytes, nonFinite, clamped: 0 };
    if (elements === 0) return { bytes: 0, ...found };
    // Never −0 either.
    const norm = largest - least + 0;
    const bits = bitsOf(norm, from, weight);
    const width = widthOf(bits, from);
    if (width === undefined) return { bytes: 0, ...found, scaleBytes: 0, declined: true };
    const head = new DataView(target.buffer, target.byteOffset, HEAD_BYTES);
    head.setFloat64(0, least, true);
    head.setFloat64(8, norm, true);
    head.setUint32(16, bits, true);
    head.setUint32(20, 0, true);
    if (width !== 0) {
      const top = 2 ** bits - 1;
      for (let first = 0; first < elements; first += RUN) {
        const run = finiteRun(from, source, first, Math.min(RUN, elements - first));
        for (let i = 0; i < run.length; i++) {
          const code = ((run[i]! - least) / norm) * top + ROUND - ROUND;
          codes[i] = code > top ? top : code;
        }
        narrow[width].set(codes.subarray(0, run.length));
        target.set(narrowedBytes.subarray(0, width * run.length), HEAD_BYTES + width * first);
      }
    }
    return { bytes: HEAD_BYTES + width * elements, ...found };
  }

  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void {
    const to = floatDType(this.name, output);
    const sizes = this.payloadSizes(spec, dtype, elements);
    if (!sizes.includes(payload.length)) {
      throw invalid(
        `the payload of ${elements} elements is ${sizes.join(" or ")} bytes, this one has ${payload.length}`,
      );
    }
    checkTarget(this.name, byteLength(to, elements), target);
    if (elements === 0) return;
    const { least, norm, bits, width } = readHead(dtype as FloatDType, elements, payload);
    const top = 2 ** bits - 1;
    values.fill(least);
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      if (width !== 0) {
        const at = HEAD_BYTES + width * first;
        narrowedBytes.set(payload.subarray(at, at + width * count));
        codes.set(narrow[width].subarray(0, count));
        for (let i = 0; i < count; i++) values[i] = (codes[i]! * norm) / top + least;
      }
      // Doubles stay what they are; all else is what float32 makes of them.
      if (dtype === "F64" && to === "F64") {
        target.set(valueBytes.subarray(0, 8 * count), 8 * first);
      } else {
        singles.set(values.subarray(0, count));
        storeRun(singles.subarray(0, count), to, target, first);
      }
    }
  }
}

/** ADAQUANT: 1, 2 or more bytes an element, as its rule chooses for each chunk (arXiv 2208.05174). */
export const adaquant: Codec = new AdaQuant();

function weightOf({ weight = DEFAULT_WEIGHT }: CodecSpec): number {
  if (typeof weight === "number" && weight > 0 && Number.isFinite(weight)) return weight;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `codec adaquant takes a weight that is positive and finite, not ${shown(weight)}`,
  );
}

/** The bytes that a code can have, fewer than an element of the dtype. */
function widthsOf(dtype: FloatDType): Width[] {
  return ([1, 2, 4] as const).filter((width) => 8 * width < DTYPE_BITS[dtype]);
}

/** The least number of bits whose levels are as many as the spread is worth; more than 32 where that many do not do. */
function bitsOf(norm: number, dtype: FloatDType, weight: number): number {
  if (norm === 0) return 0;
  const levels = Math.ceil(Math.max(1, Math.sqrt((norm * DTYPE_BITS[dtype] * LOG4) / weight)));
  let bits = 1;
  while (bits <= MOST_BITS && levels > 2 ** bits) bits++;
  return bits;
}

/** Bytes of a code of so many bits; `undefined` where they would save nothing. */
function widthOf(bits: number, dtype: FloatDType): Width | undefined {
  if (bits === 0) return 0;
  return widthsOf(dtype).find((width) => bits <= 8 * width);
}

/** Of a whole chunk, in which whatever is not finite counts as zero. */
function chunkExtent(dtype: FloatDType, elements: number, source: Uint8Array) {
  let least = Number.POSITIVE_INFINITY;
  let largest = Number.NEGATIVE_INFINITY;
  let nonFinite = 0;
  for (let first = 0; first < elements; first += RUN) {
    const count = Math.min(RUN, elements - first);
    nonFinite += countNonFinite(loadRun(dtype, source, first, count));
    const run = finiteRun(dtype, source, first, count);
    for (let i = 0; i < count; i++) {
      const value = run[i]!;
      if (value < least) least = value;
      if (value > largest) largest = value;
    }
  }
  // Never −0.
  return { least: least + 0, largest, nonFinite };
}

/** A run as doubles, with +0 for what is not finite as a float32. */
function finiteRun(dtype: FloatDType, source: Uint8Array, first: number, count: number): Float64Array {
  const run = loadDoubleRun(dtype, source, first, count, values);
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(Math.fround(run[i]!))) run[i] = 0;
  }
  return run;
}

/** @throws TensorwireError `PAYLOAD_INVALID` where it is none, or not that of a payload of this length. */
function readHead(dtype: FloatDType, elements: number, payload: Uint8Array) {
  const head = new DataView(payload.buffer, payload.byteOffset, HEAD_BYTES);
  const least = head.getFloat64(0, true);
  const norm = head.getFloat64(8, true);
  const bits = head.getUint32(16, true);
  if (!Number.isFinite(least)) throw invalid(`its least value is ${least}`);
  if (!(norm >= 0 && norm < Number.POSITIVE_INFINITY)) throw invalid(`its spread is ${norm}`);
  if (bits > MOST_BITS) throw invalid(`its codes have ${bits} bits`);
  if (head.getUint32(20, true) !== 0) throw invalid("the last word of its head is not 0");
  const width = widthOf(bits, dtype);
  if (width === undefined || HEAD_BYTES + width * elements !== payload.length) {
    throw invalid(`${elements} codes of ${bits} bits do not take ${payload.length - HEAD_BYTES} bytes`);
  }
  return { least, norm, bits, width };
}

function invalid(what: string): TensorwireError {
  return new TensorwireError("PAYLOAD_INVALID", `adaquant: ${what}`);
}
