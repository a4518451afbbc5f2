// 32 codes, a word each, as one string of bits, and back: see docs/codecs.md. Internal linkage throughout: see kernels.h.
#pragma once

#include "lanes_avx512.h"

namespace tensorwire {
namespace {

// Which bytes of a tile's four groups of eight codes hold bits: `kBits` of each.
template <uint32_t kBits>
struct CodeBytes {
  alignas(32) uint8_t together[32] = {};
  alignas(32) uint8_t apart[32] = {};
  constexpr CodeBytes() {
    for (uint32_t group = 0; group < 4; group++) {
      for (uint32_t i = 0; i < 8; i++) {
        if (i < kBits) together[group * kBits + i] = static_cast<uint8_t>(group * 8 + i);
        apart[group * 8 + i] = static_cast<uint8_t>(group * kBits + i);
      }
    }
  }
};

template <uint32_t kBits>
constexpr CodeBytes<kBits> kCodeBytes{};

// Writes 32 bytes, of which 4 * kBits count.
template <uint32_t kBits>
TENSORWIRE_INLINE void packCodes(const __m512i codes[2], uint8_t* out) {
  __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(codes[1]), _mm512_cvtepi32_epi8(codes[0]));
  if constexpr (kBits < 8) {
    // Pairs to 16 bits, pairs of these to 32, and of these to 64.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi16(static_cast<short>(1 | 1 << (kBits + 8))), bytes);
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 1 << (2 * kBits + 16)));
    const __m256i low = _mm256_and_si256(fours, _mm256_set1_epi64x(0xffffffff));
    const __m256i high = _mm256_slli_epi64(_mm256_srli_epi64(fours, 32), 4 * kBits);
    const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodeBytes<kBits>.together));
    bytes = _mm256_permutexvar_epi8(order, _mm256_or_si256(low, high));
  }
  store256<false>(out, bytes);
}

// Reads 32 bytes.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackCodes(const uint8_t* in, __m512i codes[2]) {
  __m256i bytes = load256(in);
  if constexpr (kBits < 8) {
    const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodeBytes<kBits>.apart));
    // Eight bits from bit 0, kBits, 2 * kBits, … of each group.
    uint64_t begins = 0;
    for (uint64_t i = 0; i < 8; i++) begins |= i * kBits << (8 * i);
    bytes = _mm256_multishift_epi64_epi8(_mm256_set1_epi64x(static_cast<int64_t>(begins)),
                                         _mm256_permutexvar_epi8(order, bytes));
    bytes = _mm256_and_si256(bytes, _mm256_set1_epi8((1 << kBits) - 1));
  }
  codes[0] = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes));
  codes[1] = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(bytes, 1));
}

}  // namespace
}  // namespace tensorwire
