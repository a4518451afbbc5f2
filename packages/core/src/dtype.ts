import { TensorwireError } from "./errors.js";

/** Bits per element of every dtype, in safetensors' spelling (safetensors 0.6, `Dtype`). */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A dtype, in safetensors' spelling. */
export type DType = keyof typeof DTYPE_BITS;

/** The dtypes that codecs quantize and that an output can be converted to; every other dtype travels exactly. */
export const FLOAT_DTYPES = ["F16", "BF16", "F32", "F64"] as const;
/** A dtype of floats that codecs quantize. */
export type FloatDType = (typeof FLOAT_DTYPES)[number];

/**
 * Whether this is the name of a dtype.
 * @example
 * console.log(isDType("BF16"), isDType("bfloat16")); // true false
 */
export function isDType(name: unknown): name is DType {
  return typeof name === "string" && Object.hasOwn(DTYPE_BITS, name);
}

/**
 * Whether codecs quantize this dtype.
 * @example
 * console.log(isFloatDType("F64"), isFloatDType("I64")); // true false
 */
export function isFloatDType(dtype: DType): dtype is FloatDType {
  return (FLOAT_DTYPES as readonly DType[]).includes(dtype);
}

/**
 * Bytes that `elements` elements take, packed.
 * @throws TensorwireError `LIMIT_EXCEEDED` past 2⁵³, `INVALID_ARGUMENT` where they do not fill whole bytes.
 * @example
 * console.log(byteLength("BF16", 3), byteLength("F4", 6)); // 6 3
 */
export function byteLength(dtype: DType, elements: number): number {
  const bits = DTYPE_BITS[dtype];
  // Elements that fill whole bytes together: counted in those, no product is ever rounded.
  const together = bits === 6 ? 4 : bits === 4 ? 2 : 1;
  const bytes = Math.ceil(elements / together) * ((bits * together) / 8);
  if (!(bytes <= Number.MAX_SAFE_INTEGER)) {
    throw new TensorwireError("LIMIT_EXCEEDED", `${elements} elements of ${dtype} are more than 2^53 bytes`);
  }
  if (elements % together) {
    throw new TensorwireError("INVALID_ARGUMENT", `${elements} elements of ${dtype} do not fill whole bytes`);
  }
  return bytes;
}
