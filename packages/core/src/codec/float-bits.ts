/**
 * Bits of the binary16 nearest to a binary32, ties to even (IEEE 754); overflow gives infinity, a NaN stays one,
 * quieted, with the top of its payload, as x86 and ARM convert.
 * @param bits the binary32's bits, signed or unsigned.
 * @example
 * const bits = f32ToF16Bits(0x3f800000); // 1
 * console.log(bits.toString(16), f16ToF32Bits(bits).toString(16)); // 3c00 3f800000
 */
export function f32ToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  // 65536 and up. From 65520 the rounding below carries into the exponent, and gives infinity by itself.
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  // From 2^-14: rebias the exponent from 127 to 15 and round away 13 bits.
  if (magnitude >= 0x38800000) {
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  }
  // Up to 2^-25, half of the smallest subnormal, whose tie goes to the even zero.
  if (magnitude <= 0x33000000) return sign;
  // A subnormal is a count of 2^-24: the significand, shifted by as much as its exponent is short of that.
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - (magnitude >> 23);
  const tie = (1 << (shift - 1)) - 1 + ((significand >> shift) & 1);
  return sign | ((significand + tie) >> shift);
}

/** Bits (unsigned) of the binary32 that equals a binary16, given by its bits; a NaN is quieted. */
export function f16ToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const magnitude = half & 0x7fff;
  if (magnitude > 0x7c00) return (sign | 0x7fc00000 | (magnitude << 13)) >>> 0;
  if (magnitude === 0x7c00) return (sign | 0x7f800000) >>> 0;
  if (magnitude >= 0x400) return (sign | ((magnitude << 13) + 0x38000000)) >>> 0;
  if (magnitude === 0) return sign >>> 0;
  // A subnormal: its leading bit becomes the implicit one.
  const lead = Math.clz32(magnitude) - 21;
  return (sign | ((113 - lead) << 23) | ((magnitude << (13 + lead)) & 0x7fffff)) >>> 0;
}

/**
 * Bits of the bfloat16 nearest to a binary32, ties to even; overflow gives infinity, a NaN stays one, quieted, with the
 * top of its payload, as AVX-512 BF16 and ARM convert.
 * @param bits the binary32's bits, signed or unsigned.
 * @example
 * const bits = f32ToBf16Bits(0x3f800000); // 1
 * console.log(bits.toString(16), bf16ToF32Bits(bits).toString(16)); // 3f80 3f800000
 */
export function f32ToBf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Bits (unsigned) of the binary32 that equals a bfloat16, given by its bits. */
export function bf16ToF32Bits(half: number): number {
  return (half << 16) >>> 0;
}
