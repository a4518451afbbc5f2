import { type DType, type FloatDType, isFloatDType } from "../dtype.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import { checkDecode, checkElements, checkEncode, checkParameters, floatDType } from "./codec-arguments.js";
import { loadRun, RUN, storeRun } from "./float-run.js";

/** What a narrowing of one run found. */
export interface Narrowed {
  nonFinite: number;
  clamped: number;
}

/** What distinguishes one 16-bit float codec from the other. */
export interface HalfFormat {
  readonly name: string;
  readonly id: number;
  /** The dtype whose elements the payload holds. */
  readonly dtype: FloatDType;
  /** Rounds float32 bits into 16-bit floats, and counts what they cannot carry. */
  narrow(bits: Int32Array, halves: Uint16Array, found: Narrowed): void;
}

// Of one run at a time: codecs are synchronous.
const halves = new Uint16Array(RUN);
const halfBytes = new Uint8Array(halves.buffer);

/** A codec whose payload is the elements as 16-bit floats, in order. */
export class HalfCodec implements Codec {
  readonly name: string;
  readonly id: number;
  readonly #format: HalfFormat;

  constructor(format: HalfFormat) {
    this.name = format.name;
    this.id = format.id;
    this.#format = format;
  }

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, []);
    return { name: this.name };
  }

  supports(dtype: DType): boolean {
    return isFloatDType(dtype);
  }

  payloadBytes(_spec: CodecSpec, dtype: DType, elements: number): number {
    floatDType(this.name, dtype);
    checkElements(this.name, elements);
    return 2 * elements;
  }

  scaleBytes(): number {
    return 0;
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const bytes = this.payloadBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    const found = { nonFinite: 0, clamped: 0 };
    for (let first = 0; first < elements; first += RUN) {
      const run = loadRun(dtype as FloatDType, source, first, Math.min(RUN, elements - first));
      this.#format.narrow(new Int32Array(run.buffer, run.byteOffset, run.length), halves, found);
      target.set(halfBytes.subarray(0, 2 * run.length), 2 * first);
    }
    return { bytes, scaleBytes: 0, ...found };
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
    checkDecode(this.name, this.payloadBytes(spec, dtype, elements), payload, output, elements, target);
    if (to === this.#format.dtype) {
      target.set(payload);
      return;
    }
    for (let first = 0; first < elements; first += RUN) {
      const run = loadRun(this.#format.dtype, payload, first, Math.min(RUN, elements - first));
      storeRun(run, to, target, first);
    }
  }
}
