import { byteLength, type DType, type FloatDType } from "../dtype.js";
import type { Codec, CodecSpec, Encoded } from "./codec.js";
import {
  checkConversion,
  checkDecode,
  checkElements,
  checkEncode,
  checkParameters,
} from "./codec-arguments.js";
import { loadRun, RUN, storeRun } from "./float-run.js";

/**
 * The elements as they are, of any dtype. Decoding to another float dtype rounds to float32 and then to the output, to
 * nearest even both times, as PyTorch converts; what lies outside the output's range becomes infinite.
 */
class None implements Codec {
  readonly name = "none";
  readonly id = 0;

  resolve(spec: CodecSpec): CodecSpec {
    checkParameters(this.name, spec, []);
    return { name: this.name };
  }

  supports(): boolean {
    return true;
  }

  payloadBytes(_spec: CodecSpec, dtype: DType, elements: number): number {
    checkElements(this.name, elements);
    return byteLength(dtype, elements);
  }

  scaleBytes(): number {
    return 0;
  }

  encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, target: Uint8Array): Encoded {
    const bytes = this.payloadBytes(spec, dtype, elements);
    checkEncode(this.name, dtype, elements, source, bytes, target);
    target.set(source.subarray(0, bytes));
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
    if (output === dtype) {
      target.set(payload);
      return;
    }
    // Both are: nothing else is converted.
    const [from, to] = [dtype as FloatDType, output as FloatDType];
    for (let first = 0; first < elements; first += RUN) {
      storeRun(loadRun(from, payload, first, Math.min(RUN, elements - first)), to, target, first);
    }
  }
}

/** The source's own bytes: every dtype, exactly. */
export const none: Codec = new None();
