import { type DType, type FloatDType, isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { absmax, quantizeBlocks } from "./absmax-block.js";
import { blockSize, shown } from "./block-size.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import {
  checkDecode,
  checkElements,
  checkEncode,
  checkParameters,
  checkPayload,
  floatDType,
} from "./codec-arguments.js";
import { countNonFinite, loadRun, RUN, storeRun } from "./float-run.js";
import type { LevelSearch } from "./level-search.js";
import {
  NESTED_BLOCK,
  nestedBytes,
  readNestedScales,
  ScaleMean,
  writeNestedBlock,
  writeOffset,
} from "./nested-scales.js";

/** What distinguishes one codec of blocks from another. */
export interface BlockFormat {
  /** Of the codec. */
  readonly name: string;
  /** The codec's number on the wire, which no codec ever had. */
  readonly id: number;
  /** Elements per scale; powers of two from `minBlock` to 4096 are taken. */
  readonly defaultBlock: number;
  /** The least number of elements a scale. */
  readonly minBlock: number;
  /** Whether its scales can be stored in 8 bits each. */
  readonly nests: boolean;
  /** Which code a value gets, in units of its block's scale. */
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

// Of one run at a time: codecs are synchronous. One more code, for the padding of an odd run.
const codes = new Uint8Array(RUN + 1);
const values = new Float32Array(RUN);
// Of one run, or of as many as share a nested scale.
const scales = new Float32Array(Math.max(RUN / 32, NESTED_BLOCK));
const scaleBytes = new Uint8Array(scales.buffer);

/**
 * Blockwise quantization as bitsandbytes' CUDA kernels define it: a block's scale is its largest magnitude (absmax), and
 * each element, times the reciprocal of that, becomes the code of a level of a fixed table. All arithmetic is float32.
 *
 * Payload of n elements in blocks of b: ceil(n / b) scales, float32 or nested, then the codes.
 * @example
 * // One that differs from `normfloat4` in nothing but its blocks and its name.
 * console.log(normfloat4 instanceof BlockCodec, normfloat4.resolve({ name: "normfloat4" }).block); // true 64
 */
export class BlockCodec implements Codec {
  /** Of the format. */
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
    checkParameters(this.name, spec, this.#format.nests ? ["block", "nested"] : ["block"]);
    const block = this.#block(spec);
    return { name: this.name, block, ...(this.#nested(spec) && { nested: true }) };
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
    const blocks = Math.ceil(elements / this.#block(spec));
    return this.#nested(spec) ? nestedBytes(blocks) : 4 * blocks;
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const block = this.#block(spec);
    const nested = this.#nested(spec);
    const bytes = this.payloadBytes(spec, dtype, elements);
    const codesAt = this.scaleBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    const from = dtype as FloatDType;
    const { levels } = this.#format;
    const count = Math.ceil(elements / block);
    // Nested scales are differences from the mean of all: the elements are looked at twice, since nothing else here has
    // room for the scales between.
    const offset = nested ? meanScale(from, elements, source, block) : 0;
    if (nested && elements > 0) writeOffset(offset, target);
    let nonFinite = 0;
    // A whole number of runs, and of blocks.
    const stride = nested ? NESTED_BLOCK * block : RUN;
    for (let begin = 0; begin < elements; begin += stride) {
      const end = Math.min(elements, begin + stride);
      let blocks = 0;
      for (let first = begin; first < end; first += RUN) {
        const run = loadRun(from, source, first, Math.min(RUN, end - first));
        nonFinite += countNonFinite(run);
        blocks += quantizeBlocks(run, block, levels, scales, blocks, codes);
        this.#format.pack(codes, run.length, target, codesAt + this.#format.codeBytes(first));
      }
      const firstBlock = begin / block;
      if (nested) writeNestedBlock(scales.subarray(0, blocks), firstBlock, count, offset, target);
      else target.set(scaleBytes.subarray(0, 4 * blocks), 4 * firstBlock);
    }
    return { bytes, scaleBytes: codesAt, nonFinite, clamped: 0 };
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
    const nested = this.#nested(spec);
    const to = floatDType(this.name, output);
    checkDecode(this.name, this.payloadBytes(spec, dtype, elements), payload, output, elements, target);
    const codesAt = this.scaleBytes(spec, dtype, elements);
    const allBlocks = Math.ceil(elements / block);
    const table = this.#values;
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      const blocks = Math.ceil(count / block);
      readScales(payload, first / block, allBlocks, nested, blocks);
      this.#format.unpack(payload, codesAt + this.#format.codeBytes(first), codes, count);
      for (let b = 0; b < blocks; b++) {
        const scale = scales[b]!;
        const end = Math.min(count, (b + 1) * block);
        for (let i = b * block; i < end; i++) values[i] = table[codes[i]!]! * scale;
      }
      storeRun(values.subarray(0, count), to, target, first);
    }
  }

  /** Where no level is beyond 1, values are finite exactly where their block's scale is. */
  finite(spec: CodecSpec, dtype: DType, elements: number, payload: Uint8Array): boolean | undefined {
    if (this.#values.some((value) => Math.abs(value) > 1)) return undefined;
    const nested = this.#nested(spec);
    checkPayload(this.name, this.payloadBytes(spec, dtype, elements), payload, elements);
    const allBlocks = Math.ceil(elements / this.#block(spec));
    for (let first = 0; first < allBlocks; first += scales.length) {
      const blocks = Math.min(scales.length, allBlocks - first);
      readScales(payload, first, allBlocks, nested, blocks);
      if (countNonFinite(scales.subarray(0, blocks)) > 0) return false;
    }
    return true;
  }

  #block(spec: CodecSpec): number {
    const { defaultBlock, minBlock } = this.#format;
    return blockSize(this.name, spec.block, defaultBlock, minBlock);
  }

  #nested({ nested }: CodecSpec): boolean {
    if (!this.#format.nests || nested === undefined || nested === false) return false;
    if (nested === true) return true;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `codec ${this.name} takes true or false as nested, not ${shown(nested)}`,
    );
  }
}

/** The mean of the scales of all blocks. */
function meanScale(dtype: FloatDType, elements: number, source: Uint8Array, block: number): number {
  const mean = new ScaleMean();
  for (let first = 0; first < elements; first += RUN) {
    const run = loadRun(dtype, source, first, Math.min(RUN, elements - first));
    for (let begin = 0; begin < run.length; begin += block) {
      mean.add(absmax(run, begin, Math.min(run.length, begin + block), block));
    }
  }
  return mean.offset();
}

/** Fills `scales` with those of `blocks` blocks from `first` on, of a payload that has `count`. */
function readScales(
  payload: Uint8Array,
  first: number,
  count: number,
  nested: boolean,
  blocks: number,
): void {
  if (nested) readNestedScales(payload, first, count, scales.subarray(0, blocks));
  else scaleBytes.set(payload.subarray(4 * first, 4 * (first + blocks)));
}
