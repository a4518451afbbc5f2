import { type DType, type FloatDType, isFloatDType } from "../dtype.js";
import { blockSize } from "./block-size.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import { checkDecode, checkElements, checkEncode, checkParameters, floatDType } from "./codec-arguments.js";
import { countNonFinite, loadRun, RUN, storeRun } from "./float-run.js";
import type { LevelSearch } from "./level-search.js";

/** What distinguishes one codec of blocks from another. */
export interface BlockFormat {
  readonly name: string;
  readonly id: number;
  /** Elements per scale; powers of two from `minBlock` to 4096 are taken. */
  readonly defaultBlock: number;
  readonly minBlock: number;
  readonly levels: LevelSearch;
  /** What each code stands for, in units of its block's scale. */
  readonly values: readonly number[];
  /** Bytes of the codes of `elements` elements. */
  codeBytes(elements: number): number;
  /** Writes `count` codes, one a byte in `codes`, as the format stores them. `codes[count]` is that of a padding +0. */
  pack(codes: Uint8Array, count: number, target: Uint8Array, at: number): void;
  /** Reads `count` codes from `at`, one into each byte of `codes`. */
  unpack(payload: Uint8Array, at: number, codes: Uint8Array, count: number): void;
}

const FLT_MAX = 3.4028234663852886e38;

// Of one run at a time: codecs are synchronous. One more code, for the padding of an odd run.
const codes = new Uint8Array(RUN + 1);
const scales = new Float32Array(RUN / 32);
const scaleBytes = new Uint8Array(scales.buffer);
const values = new Float32Array(RUN);

/**
 * Blockwise quantization as bitsandbytes' CUDA kernels define it: a block's scale is its largest magnitude (absmax), and
 * each element, times the reciprocal of that, becomes the code of a level of a fixed table. All arithmetic is float32.
 *
 * Payload of n elements in blocks of b: ceil(n / b) float32 scales, then the codes.
 */
export class BlockCodec implements Codec {
  readonly name: string;
  readonly id: number;
  readonly #format: BlockFormat;
  readonly #values: Float32Array;

  constructor(format: BlockFormat) {
    this.name = format.name;
    this.id = format.id;
    this.#format = format;
    this.#values = Float32Array.from(format.values);
  }

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, ["block"]);
    return { name: this.name, block: this.#block(spec) };
  }

  supports(dtype: DType): boolean {
    return isFloatDType(dtype);
  }

  payloadBytes(spec: CodecSpec, dtype: DType, elements: number): number {
    return this.scaleBytes(spec, dtype, elements) + this.#format.codeBytes(elements);
  }

  scaleBytes(spec: CodecSpec, dtype: DType, elements: number): number {
    floatDType(this.name, dtype);
    checkElements(this.name, elements);
    return 4 * Math.ceil(elements / this.#block(spec));
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const block = this.#block(spec);
    const bytes = this.payloadBytes(spec, dtype, elements);
    const scaleData = this.scaleBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    let nonFinite = 0;
    for (let first = 0; first < elements; first += RUN) {
      const run = loadRun(dtype as FloatDType, source, first, Math.min(RUN, elements - first));
      nonFinite += countNonFinite(run);
      const blocks = this.#quantize(run, block);
      target.set(scaleBytes.subarray(0, 4 * blocks), 4 * (first / block));
      this.#format.pack(codes, run.length, target, scaleData + this.#format.codeBytes(first));
    }
    return { bytes, scaleBytes: scaleData, nonFinite, clamped: 0 };
  }

  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void {
    const block = this.#block(spec);
    const to = floatDType(this.name, output);
    checkDecode(this.name, this.payloadBytes(spec, dtype, elements), payload, output, elements, target);
    const codesAt = this.scaleBytes(spec, dtype, elements);
    const table = this.#values;
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      const blocks = Math.ceil(count / block);
      const scalesAt = 4 * (first / block);
      scaleBytes.set(payload.subarray(scalesAt, scalesAt + 4 * blocks));
      this.#format.unpack(payload, codesAt + this.#format.codeBytes(first), codes, count);
      for (let b = 0; b < blocks; b++) {
        const scale = scales[b]!;
        const end = Math.min(count, (b + 1) * block);
        for (let i = b * block; i < end; i++) values[i] = table[codes[i]!]! * scale;
      }
      storeRun(values.subarray(0, count), to, target, first);
    }
  }

  /** Fills `scales` and `codes` from a run that begins with a block; gives the number of blocks. */
  #quantize(run: Float32Array, block: number): number {
    const levels = this.#format.levels;
    const count = run.length;
    let b = 0;
    for (let begin = 0; begin < count; begin += block) {
      const end = Math.min(count, begin + block);
      // A short block is padded with zeros, so that its scale is never below zero.
      const scale = absmax(run, begin, end, end - begin < block ? 0 : -FLT_MAX);
      scales[b++] = scale;
      // Once a block, then multiplied: dividing each element gives other codes. The double quotient of two float32
      // rounds to the float32 one.
      const inverse = Math.fround(1 / scale);
      levels.search(run, inverse, begin, end, codes);
      if (end - begin < block) {
        zero[0] = 0;
        levels.search(zero, inverse, 0, 1, padding);
        codes[count] = padding[0]!;
      }
    }
    return b;
  }

  #block(spec: CodecSpec): number {
    const { defaultBlock, minBlock } = this.#format;
    return blockSize(this.name, spec.block, defaultBlock, minBlock);
  }
}

const zero = new Float32Array(1);
const padding = new Uint8Array(1);

/** The largest magnitude of `run[begin … end - 1]` and `least`; NaN is passed over, as C's fmaxf does. */
function absmax(run: Float32Array, begin: number, end: number, least: number): number {
  let largest = least;
  for (let i = begin; i < end; i++) {
    const magnitude = Math.abs(run[i]!);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}
