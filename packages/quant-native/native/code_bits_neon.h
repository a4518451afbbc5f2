// 32 codes, a word each, as one string of bits, and back: see docs/codecs.md. Internal linkage throughout: see kernels.h.
#pragma once

#include "code_bytes.h"
#include "lanes_neon.h"

namespace tensorwire {
namespace {

// Sixteen words as bytes.
inline uint8x16_t bytesOf(const int32x4_t words[4]) {
  const int16x8_t low = vcombine_s16(vmovn_s32(words[0]), vmovn_s32(words[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(words[2]), vmovn_s32(words[3]));
  return vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

// Writes 32 bytes at most, of which 4 * kBits count.
template <uint32_t kBits>
TENSORWIRE_INLINE void packCodes(const int32x4_t codes[8], uint8_t* out) {
  for (size_t i = 0; i < 2; i++, out += 2 * kBits) {
    const uint8x16_t bytes = bytesOf(codes + 4 * i);
    if constexpr (kBits == 8) {
      vst1q_u8(out, bytes);
    } else {
      // Pairs to 16 bits, pairs of these to 32, and of these to 64.
      const uint16x8_t ones = vreinterpretq_u16_u8(bytes);
      const uint16x8_t pairs = (ones & 0xff) | ones >> 8 << kBits;
      const uint32x4_t two = vreinterpretq_u32_u16(pairs);
      const uint32x4_t fours = (two & 0xffff) | two >> 16 << (2 * kBits);
      const uint64x2_t four = vreinterpretq_u64_u32(fours);
      const uint64x2_t eights = (four & 0xffffffff) | four >> 32 << (4 * kBits);
      vst1q_u8(out, vqtbl1q_u8(vreinterpretq_u8_u64(eights), vld1q_u8(kCodeBytes<kBits>.together)));
    }
  }
}

// Reads 32 bytes at most.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackCodes(const uint8_t* in, int32x4_t codes[8]) {
  for (size_t i = 0; i < 8; i += 2, in += kBits) {
    const uint8x8_t group = vld1_u8(in);
    if constexpr (kBits == 8) {
      const uint16x8_t words = vmovl_u8(group);
      codes[i] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
      codes[i + 1] = vreinterpretq_s32_u32(vmovl_high_u16(words));
    } else {
      // Past the table's end, as at 0x80, a look-up gives zero.
      const uint8x16_t table = vcombine_u8(group, vdup_n_u8(0));
      for (size_t half = 0; half < 2; half++) {
        const uint8x16_t both = vqtbl1q_u8(table, vld1q_u8(kCodeBytes<kBits>.apart + 16 * half));
        const uint32x4_t begin = vld1q_u32(kCodeBytes<kBits>.begin + 4 * half);
        const int32x4_t right = vnegq_s32(vreinterpretq_s32_u32(begin));
        const uint32x4_t moved = vshlq_u32(vreinterpretq_u32_u8(both), right);
        codes[i + half] = vreinterpretq_s32_u32(vandq_u32(moved, vdupq_n_u32((1 << kBits) - 1)));
      }
    }
  }
}

}  // namespace
}  // namespace tensorwire
