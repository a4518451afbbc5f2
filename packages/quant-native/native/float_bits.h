// Conversions between the 16-bit floats and f32, bit by bit: round to nearest even, NaNs quieted with the top of their
// payload, as x86 and ARM convert. The same arithmetic as float-bits.ts of @tensorwire/core. Internal linkage, for the
// reason given in lanes_avx2.h.
#pragma once

#include <cstdint>
#include <cstring>

namespace tensorwire {
namespace {

constexpr uint32_t kMagnitudeMask = 0x7fffffff;
constexpr uint32_t kInfinityBits = 0x7f800000;

inline uint32_t bitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float fromBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool isNonFinite(float value) { return (bitsOf(value) & kInfinityBits) == kInfinityBits; }

inline uint16_t toHalf(float value) {
  const uint32_t bits = bitsOf(value);
  const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & kMagnitudeMask;
  if (magnitude > kInfinityBits) return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  // From 65520 the rounding below would carry into infinity by itself; from 65536 its exponent does not fit.
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);
  // Normal: rebias the exponent from 127 to 15 and round away 13 bits.
  if (magnitude >= 0x38800000) {
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
  }
  // Half of the smallest subnormal, whose tie goes to the even zero.
  if (magnitude <= 0x33000000) return static_cast<uint16_t>(sign);
  // A subnormal counts 2^-24: shift the significand by what its exponent is short of that.
  const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  const uint32_t shift = 126 - (magnitude >> 23);
  const uint32_t tie = (1u << (shift - 1)) - 1 + ((significand >> shift) & 1);
  return static_cast<uint16_t>(sign | ((significand + tie) >> shift));
}

inline float fromHalf(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  if (magnitude > 0x7c00) return fromBits(sign | 0x7fc00000 | (magnitude << 13));
  if (magnitude == 0x7c00) return fromBits(sign | kInfinityBits);
  if (magnitude >= 0x400) return fromBits(sign | ((magnitude << 13) + 0x38000000));
  // A subnormal is a count of 2^-24: exact in f32.
  return fromBits(sign | bitsOf(static_cast<float>(magnitude) * 0x1p-24f));
}

inline uint16_t toBrain(float value) {
  const uint32_t bits = bitsOf(value);
  if ((bits & kMagnitudeMask) > kInfinityBits) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float fromBrain(uint16_t brain) { return fromBits(static_cast<uint32_t>(brain) << 16); }

}  // namespace
}  // namespace tensorwire
