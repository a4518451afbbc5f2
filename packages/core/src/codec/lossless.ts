import { byteLength, DTYPE_BITS, type DType, isFloatDType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import {
  checkConversion,
  checkDecode,
  checkElements,
  checkEncode,
  checkParameters,
} from "./codec-arguments.js";
import { loadRun, RUN, storeRun } from "./float-run.js";

// Of one run at a time: codecs are synchronous.
const gathered = new Uint8Array(8 * RUN);

/**
 * Bytes of equal significance, gathered into planes: the elements' first bytes, then their second bytes, … As long as
 * the source and exact to the bit, it is packing that makes it smaller: exponents are much alike.
 */
class Lossless implements Codec {
  readonly name = "lossless";
  readonly id = 7;
  readonly packs = true;

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, []);
    return { name: this.name };
  }

  supports(dtype: DType): boolean {
    return DTYPE_BITS[dtype] % 8 === 0;
  }

  payloadBytes(_spec: CodecSpec, dtype: DType, elements: number): number {
    if (!this.supports(dtype)) {
      throw new TensorwireError("INVALID_ARGUMENT", `codec ${this.name} takes whole bytes, not ${dtype}`);
    }
    checkElements(this.name, elements);
    return byteLength(dtype, elements);
  }

  scaleBytes(): number {
    return 0;
  }

  segments(_spec: CodecSpec, dtype: DType, elements: number): readonly number[] {
    return elements === 0 ? [] : new Array<number>(DTYPE_BITS[dtype] / 8).fill(elements);
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const bytes = this.payloadBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    const width = DTYPE_BITS[dtype] / 8;
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      for (let plane = 0; plane < width; plane++) {
        const to = plane * elements + first;
        const from = first * width + plane;
        for (let i = 0; i < count; i++) target[to + i] = source[from + i * width]!;
      }
    }
    // NaN and infinity are carried as exactly as anything else.
    return { bytes, scaleBytes: 0, nonFinite: 0, clamped: 0 };
  }

  decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    target: Uint8Array,
  ): void {
    const bytes = this.payloadBytes(spec, dtype, elements);
    checkConversion(dtype, output);
    checkDecode(this.name, bytes, payload, output, elements, target);
    const width = DTYPE_BITS[dtype] / 8;
    for (let first = 0; first < elements; first += RUN) {
      const count = Math.min(RUN, elements - first);
      if (output === dtype) {
        gather(payload, elements, first, count, width, target, first * width);
      } else if (isFloatDType(dtype) && isFloatDType(output)) {
        gather(payload, elements, first, count, width, gathered, 0);
        storeRun(loadRun(dtype, gathered, 0, count), output, target, first);
      }
    }
  }
}

/** Writes elements `first` … of all planes one behind the other, from `at` on. */
function gather(
  planes: Uint8Array,
  elements: number,
  first: number,
  count: number,
  width: number,
  target: Uint8Array,
  at: number,
): void {
  for (let plane = 0; plane < width; plane++) {
    const from = plane * elements + first;
    const to = at + plane;
    for (let i = 0; i < count; i++) target[to + i * width] = planes[from + i]!;
  }
}

/** Exact: bytes of equal significance in planes, which packing shrinks by what exponents repeat. */
export const lossless: Codec = new Lossless();
