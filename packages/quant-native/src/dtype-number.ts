import { DTYPE_BITS, type DType, isFloatDType, TensorwireError } from "@tensorwire/core";

/** Bytes that nobody computes with. */
export const RAW = 0;
const DTYPE_NUMBERS = { F16: 1, BF16: 2, F32: 3, F64: 4 } as const;
/** `lossless` looks at nothing but how wide an element is: any dtype is one of these to it. */
const WIDTH_NUMBERS: Readonly<Record<number, number>> = {
  8: RAW,
  16: DTYPE_NUMBERS.F16,
  32: DTYPE_NUMBERS.F32,
  64: DTYPE_NUMBERS.F64,
};

/** A float dtype as the addon has it. */
export function dtypeNumber(dtype: DType): number {
  if (isFloatDType(dtype)) return DTYPE_NUMBERS[dtype];
  throw new TensorwireError("INVALID_ARGUMENT", `only F16, BF16, F32 and F64 are converted, not ${dtype}`);
}

/** Any dtype, to a codec that moves bytes. */
export function widthNumber(dtype: DType): number {
  return WIDTH_NUMBERS[DTYPE_BITS[dtype]]!;
}
