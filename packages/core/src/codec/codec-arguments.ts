import { byteLength, type DType, type FloatDType, isFloatDType } from "../dtype.js";
import { quote, TensorwireError } from "../errors.js";
import type { CodecSpec } from "./codec.js";

/** Refuses a spec of another codec, and parameters that are not among `known`. */
export function checkParameters(codec: string, spec: CodecSpec, known: readonly string[]): void {
  if (spec === null || typeof spec !== "object" || spec.name !== codec) {
    throw new TensorwireError("INVALID_ARGUMENT", `the spec given to codec ${codec} is not one of ${codec}`);
  }
  for (const [key, value] of Object.entries(spec)) {
    if (key === "name" || value === undefined || known.includes(key)) continue;
    const takes = known.length === 0 ? "no parameters" : known.join(", ");
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `codec ${codec} has no parameter ${quote(key)}; it takes ${takes}`,
    );
  }
}

/** `dtype` as one of the dtypes that are quantized. */
export function floatDType(codec: string, dtype: DType): FloatDType {
  if (isFloatDType(dtype)) return dtype;
  throw new TensorwireError("INVALID_ARGUMENT", `codec ${codec} takes F16, BF16, F32 and F64, not ${dtype}`);
}

/** Refuses a count that is none, before anything is computed from it. */
export function checkElements(codec: string, elements: number): void {
  if (Number.isSafeInteger(elements) && elements >= 0) return;
  throw new TensorwireError("INVALID_ARGUMENT", `codec ${codec} was given ${elements} elements`);
}

/** Refuses buffers too short for `elements` elements in and `payload` bytes out. */
export function checkEncode(
  codec: string,
  dtype: DType,
  elements: number,
  source: Uint8Array,
  payload: number,
  target: Uint8Array,
): void {
  const bytes = byteLength(dtype, elements);
  if (source.length < bytes) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${codec}: ${elements} elements of ${dtype} are ${bytes} bytes, the source has ${source.length}`,
    );
  }
  checkTarget(codec, payload, target);
}

/** Refuses an output that elements of `dtype` cannot be converted to. */
export function checkConversion(dtype: DType, output: DType): void {
  if (output === dtype || (isFloatDType(dtype) && isFloatDType(output))) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${dtype} cannot be converted to ${output}; only F16, BF16, F32 and F64 are converted`,
  );
}

/** Refuses a payload that is not `expected` bytes, and a target too short for `elements` of `output`. */
export function checkDecode(
  codec: string,
  expected: number,
  payload: Uint8Array,
  output: DType,
  elements: number,
  target: Uint8Array,
): void {
  checkPayload(codec, expected, payload, elements);
  checkTarget(codec, byteLength(output, elements), target);
}

/** Refuses a payload that is not `expected` bytes. */
export function checkPayload(codec: string, expected: number, payload: Uint8Array, elements: number): void {
  if (payload.length === expected) return;
  throw new TensorwireError(
    "PAYLOAD_INVALID",
    `${codec}: the payload of ${elements} elements is ${expected} bytes, this one has ${payload.length}`,
  );
}

/** Refuses a target of less than `bytes` bytes. */
export function checkTarget(codec: string, bytes: number, target: Uint8Array): void {
  if (target.length >= bytes) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${codec}: the target needs ${bytes} bytes and has ${target.length}`,
  );
}
