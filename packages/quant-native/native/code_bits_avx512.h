// 32 codes of fewer than 8 bits, a byte each, as one string of bits, and back: see docs/codecs.md. Internal linkage
// throughout: see kernels.h.
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
TENSORWIRE_INLINE void packTile(const uint8_t* codes, uint8_t* out) {
  // Pairs to 16 bits, pairs of these to 32, and of these to 64.
  const __m256i weights = _mm256_set1_epi16(static_cast<short>(1 | 1 << (kBits + 8)));
  const __m256i pairs = _mm256_maddubs_epi16(weights, load256(codes));
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 1 << (2 * kBits + 16)));
  const __m256i low = _mm256_and_si256(fours, _mm256_set1_epi64x(0xffffffff));
  const __m256i high = _mm256_slli_epi64(_mm256_srli_epi64(fours, 32), 4 * kBits);
  store256<false>(out, _mm256_permutexvar_epi8(load256(kCodeBytes<kBits>.together), _mm256_or_si256(low, high)));
}

// Reads 32 bytes.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackTile(const uint8_t* in, uint8_t* codes) {
  // Eight bits from bit 0, kBits, 2 * kBits, … of each group.
  uint64_t begins = 0;
  for (uint64_t i = 0; i < 8; i++) begins |= i * kBits << (8 * i);
  const __m256i groups = _mm256_permutexvar_epi8(load256(kCodeBytes<kBits>.apart), load256(in));
  const __m256i bytes = _mm256_multishift_epi64_epi8(_mm256_set1_epi64x(static_cast<int64_t>(begins)), groups);
  store256<false>(codes, _mm256_and_si256(bytes, _mm256_set1_epi8((1 << kBits) - 1)));
}

}  // namespace
}  // namespace tensorwire
