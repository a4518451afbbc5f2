// 32 codes of fewer than 8 bits, a byte each, as one string of bits, and back: see docs/codecs.md. Internal linkage
// throughout: see kernels.h.
#pragma once

#include "code_bytes.h"
#include "lanes_neon.h"

namespace tensorwire {
namespace {

// Writes 32 bytes at most, of which 4 * kBits count.
template <uint32_t kBits>
TENSORWIRE_INLINE void packTile(const uint8_t* codes, uint8_t* out) {
  for (size_t i = 0; i < 2; i++, codes += 16, out += 2 * kBits) {
    // Pairs to 16 bits, pairs of these to 32, and of these to 64.
    const uint16x8_t ones = vreinterpretq_u16_u8(vld1q_u8(codes));
    const uint32x4_t pairs = vreinterpretq_u32_u16((ones & 0xff) | ones >> 8 << kBits);
    const uint64x2_t fours = vreinterpretq_u64_u32((pairs & 0xffff) | pairs >> 16 << (2 * kBits));
    const uint64x2_t eights = (fours & 0xffffffff) | fours >> 32 << (4 * kBits);
    // Past the table's end, as at 0x80, a look-up gives zero.
    vst1q_u8(out, vqtbl1q_u8(vreinterpretq_u8_u64(eights), vld1q_u8(kCodeBytes<kBits>.together)));
  }
}

// Reads 32 bytes at most.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackTile(const uint8_t* in, uint8_t* codes) {
  for (size_t i = 0; i < 4; i++, in += kBits, codes += 8) {
    const uint8x16_t group = vcombine_u8(vld1_u8(in), vdup_n_u8(0));
    const uint16x8_t both = vreinterpretq_u16_u8(vqtbl1q_u8(group, vld1q_u8(kCodeBytes<kBits>.apart)));
    const uint16x8_t top = vmulq_u16(both, vld1q_u16(kCodeBytes<kBits>.toTop));
    vst1_u8(codes, vmovn_u16(vshrq_n_u16(top, 16 - kBits)));
  }
}

}  // namespace
}  // namespace tensorwire
