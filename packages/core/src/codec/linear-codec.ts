import { type DType, type FloatDType, isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { packBits, packedBytes, unpackBits } from "./bit-packing.js";
import { type ChunkPosition, type Codec, type CodecSpec, type Encoded, UNNAMED } from "./codec.js";
import { checkDecode, checkElements, checkEncode, checkParameters, floatDType } from "./codec-arguments.js";
import { drawRun } from "./element-draws.js";
import { countNonFinite, loadRun, RUN, storeRun } from "./float-run.js";
import { type Extent, extent, type Levels, magnitudes, nearest, stochastic } from "./linear-levels.js";
import { LINEAR_PARAMETERS, type LinearParameters, linearParameters } from "./linear-parameters.js";
import type { PhiloxKey } from "./philox.js";
import { keyOf } from "./seed.js";

// Of one run at a time: codecs are synchronous.
const codes = new Uint8Array(RUN);
const values = new Float32Array(RUN);
const scales = new Float32Array(RUN / 32);
const scaleBytes = new Uint8Array(scales.buffer);
const offsets = new Float32Array(RUN / 32);
const offsetBytes = new Uint8Array(offsets.buffer);
const found: Extent = { least: 0, largest: 0, finite: true };

/**
 * Uniform levels, N bits each: around zero (symmetric), or from a block's least value to its largest (affine). All
 * arithmetic is float32.
 *
 * Payload of n elements in blocks of b: ceil(n / b) float32 scales, as many offsets where affine, then the codes, N bits
 * each. With a shared scale, the codes alone.
 * @example
 * const codec = new LinearCodec(4);
 * console.log(codec.name, codec.payloadBytes(codec.resolve({ name: "linear4" }), "F32", 256)); // linear4 132
 */
export class LinearCodec implements Codec {
  /** `linear` and the bits. */
  readonly name: string;
  readonly id: number;
  readonly #bits: number;
  /** L of docs/codecs.md: levels on either side of zero, in symmetric mode. */
  readonly #top: number;

  constructor(bits: number) {
    this.name = `linear${bits}`;
    this.id = 16 + bits;
    this.#bits = bits;
    this.#top = 2 ** (bits - 1) - 1;
  }

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, LINEAR_PARAMETERS);
    const { block, affine, stochastic, seed, scale } = this.#read(spec);
    return {
      name: this.name,
      ...(block !== undefined && { block }),
      mode: affine ? "affine" : "symmetric",
      rounding: stochastic ? "stochastic" : "nearest",
      ...(seed !== undefined && { seed }),
      ...(scale !== undefined && { scale }),
    };
  }

  supports(dtype: DType): boolean {
    return isFloatDType(dtype);
  }

  payloadBytes(spec: CodecSpec, dtype: DType, elements: number): number {
    return this.scaleBytes(spec, dtype, elements) + packedBytes(elements, this.#bits);
  }

  scaleBytes(spec: CodecSpec, dtype: DType, elements: number): number {
    floatDType(this.name, dtype);
    checkElements(this.name, elements);
    const { block, affine } = this.#read(spec);
    if (block === undefined) return 0;
    return (affine ? 8 : 4) * Math.ceil(elements / block);
  }

  encode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    source: Uint8Array,
    target: Uint8Array,
    at: ChunkPosition = UNNAMED,
  ): Encoded {
    const parameters = this.#read(spec);
    const bytes = this.payloadBytes(spec, dtype, elements);
    const codesAt = this.scaleBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    const key = parameters.stochastic ? this.#key(parameters, at) : undefined;
    const { block, affine } = parameters;
    const encoded = { bytes, scaleBytes: codesAt, nonFinite: 0, clamped: 0 };
    for (let first = 0; first < elements; first += RUN) {
      const run = loadRun(dtype as FloatDType, source, first, Math.min(RUN, elements - first));
      const draws = key && drawRun(key, at.tensor, at.first + first, run.length);
      if (block === undefined) {
        this.#quantizeShared(run, parameters.scale!, draws, encoded);
      } else {
        const blocks = Math.ceil(run.length / block);
        encoded.nonFinite += this.#quantizeBlocks(run, block, affine, draws);
        const scalesAt = 4 * (first / block);
        target.set(scaleBytes.subarray(0, 4 * blocks), scalesAt);
        if (affine) target.set(offsetBytes.subarray(0, 4 * blocks), codesAt / 2 + scalesAt);
      }
      packBits(codes, run.length, this.#bits, target, codesAt + packedBytes(first, this.#bits));
    }
    return encoded;
  }

  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void {
    const { block = RUN, affine, scale } = this.#read(spec);
    const to = floatDType(this.name, output);
    checkDecode(this.name, this.payloadBytes(spec, dtype, elements), payload, output, elements, target);
    const codesAt = this.scaleBytes(spec, dtype, elements);
    const least = affine ? 0 : -this.#top;
    // Adding a negative zero changes nothing, not even the sign of a zero.
    offsets.fill(-0);
    if (scale !== undefined) scales[0] = scale;
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      const blocks = Math.ceil(count / block);
      const scalesAt = 4 * (first / block);
      if (scale === undefined) scaleBytes.set(payload.subarray(scalesAt, scalesAt + 4 * blocks));
      if (affine) {
        const offsetsAt = codesAt / 2 + scalesAt;
        offsetBytes.set(payload.subarray(offsetsAt, offsetsAt + 4 * blocks));
      }
      unpackBits(payload, codesAt + packedBytes(first, this.#bits), this.#bits, codes, count);
      for (let b = 0; b < blocks; b++) {
        const step = scales[b]!;
        const offset = offsets[b]!;
        const end = Math.min(count, (b + 1) * block);
        for (let i = b * block; i < end; i++) values[i] = Math.fround((codes[i]! + least) * step) + offset;
      }
      storeRun(values.subarray(0, count), to, target, first);
    }
  }

  #read(spec: CodecSpec): LinearParameters {
    return linearParameters(this.name, spec, this.#top);
  }

  /** The key of stochastic rounding, of a chunk whose place is known. */
  #key({ seed }: LinearParameters, { first }: ChunkPosition): PhiloxKey {
    if (seed === undefined) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `codec ${this.name} needs a seed to round stochastically; a transfer draws one where its policy has none`,
      );
    }
    if (!Number.isSafeInteger(first) || first < 0) {
      throw new TensorwireError("INVALID_ARGUMENT", `codec ${this.name} was given ${first} as first element`);
    }
    return keyOf(seed);
  }

  /** Fills `codes`, `scales` and `offsets` from a run that begins with a block; gives the elements it cannot carry. */
  #quantizeBlocks(run: Float32Array, block: number, affine: boolean, draws: Uint32Array | undefined): number {
    const bits = new Int32Array(run.buffer, run.byteOffset, run.length);
    const least = affine ? 0 : -this.#top;
    const most = affine ? 2 ** this.#bits - 1 : this.#top;
    let nonFinite = 0;
    const blocks = Math.ceil(run.length / block);
    for (let b = 0; b < blocks; b++) {
      // Not counted up: V8 would take it for a double, and compute with one.
      const begin = b * block;
      const end = Math.min(run.length, begin + block);
      if (affine) extent(bits, begin, end, found);
      else magnitudes(bits, begin, end, found);
      const range = Math.fround(found.largest - found.least);
      const scale = Math.fround(range / most);
      const top = Math.fround(Math.fround(most * scale) + found.least);
      // What no scale reaches: counted, and sent exactly.
      const carried = found.finite && Number.isFinite(range) && Number.isFinite(top);
      if (!carried) nonFinite += found.finite ? end - begin : countNonFinite(run.subarray(begin, end));
      const inverse = Math.fround(1 / scale);
      // Zero, or so small that its reciprocal overflows: all of the block is one level.
      const flat = !carried || !Number.isFinite(inverse);
      scales[b] = flat ? 0 : scale;
      offsets[b] = carried ? found.least : 0;
      if (flat) {
        codes.fill(-least, begin, end);
        continue;
      }
      quantize(run, begin, end, { inverse, offset: found.least, least, most }, draws);
    }
    return nonFinite;
  }

  /** Fills `codes` from a run whose scale is known. */
  #quantizeShared(
    run: Float32Array,
    scale: number,
    draws: Uint32Array | undefined,
    counts: { nonFinite: number; clamped: number },
  ): void {
    const inverse = Math.fround(1 / Math.fround(scale));
    const levels = { inverse, offset: 0, least: -this.#top, most: this.#top };
    const nonFinite = countNonFinite(run);
    let carried = run;
    if (nonFinite > 0) {
      // As zeros, in a copy: the run may be the caller's memory.
      carried = values.subarray(0, run.length);
      for (let i = 0; i < run.length; i++) carried[i] = Number.isFinite(run[i]!) ? run[i]! : 0;
    }
    counts.nonFinite += nonFinite;
    counts.clamped += quantize(carried, 0, run.length, levels, draws);
  }
}

function quantize(
  run: Float32Array,
  begin: number,
  end: number,
  levels: Levels,
  draws: Uint32Array | undefined,
): number {
  if (draws === undefined) return nearest(run, begin, end, levels, codes);
  return stochastic(run, begin, end, levels, draws, codes);
}
