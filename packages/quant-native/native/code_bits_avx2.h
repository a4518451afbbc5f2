// 32 codes, a word each, as one string of bits, and back: see docs/codecs.md. Internal linkage throughout: see kernels.h.
#pragma once

#include "code_bytes.h"
#include "lanes_avx2.h"

namespace tensorwire {
namespace {

// Writes 32 bytes, of which 4 * kBits count.
template <uint32_t kBits>
TENSORWIRE_INLINE void packCodes(const __m256i codes[4], uint8_t* out) {
  const __m256i bytes =
      bytesInOrder(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
  if constexpr (kBits == 8) {
    store256<false>(out, bytes);
  } else {
    // Pairs to 16 bits, pairs of these to 32, and of these to 64.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi16(static_cast<short>(1 | 1 << (kBits + 8))), bytes);
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 1 << (2 * kBits + 16)));
    const __m256i low = _mm256_and_si256(fours, _mm256_set1_epi64x(0xffffffff));
    const __m256i high = _mm256_slli_epi64(_mm256_srli_epi64(fours, 32), 4 * kBits);
    const __m256i order = _mm256_broadcastsi128_si256(load128(kCodeBytes<kBits>.together));
    const __m256i together = _mm256_shuffle_epi8(_mm256_or_si256(low, high), order);
    store128<false>(out, _mm256_castsi256_si128(together));
    store128<false>(out + 2 * kBits, _mm256_extracti128_si256(together, 1));
  }
}

// Reads 32 bytes at most.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackCodes(const uint8_t* in, __m256i codes[4]) {
  for (size_t i = 0; i < 4; i++, in += kBits) {
    int64_t group;
    memcpy(&group, in, sizeof group);
    if constexpr (kBits == 8) {
      codes[i] = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(group));
    } else {
      const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodeBytes<kBits>.apart));
      const __m256i begin = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCodeBytes<kBits>.begin));
      const __m256i both = _mm256_shuffle_epi8(_mm256_set1_epi64x(group), order);
      codes[i] = _mm256_and_si256(_mm256_srlv_epi32(both, begin), _mm256_set1_epi32((1 << kBits) - 1));
    }
  }
}

}  // namespace
}  // namespace tensorwire
