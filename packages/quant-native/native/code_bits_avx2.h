// 32 codes of fewer than 8 bits, a byte each, as one string of bits, and back: see docs/codecs.md. Internal linkage
// throughout: see kernels.h.
#pragma once

#include "code_bytes.h"
#include "lanes_avx2.h"

namespace tensorwire {
namespace {

// Writes 32 bytes at most, of which 4 * kBits count.
template <uint32_t kBits>
TENSORWIRE_INLINE void packTile(const uint8_t* codes, uint8_t* out) {
  // Pairs to 16 bits, pairs of these to 32, and of these to 64.
  const __m256i weights = _mm256_set1_epi16(static_cast<short>(1 | 1 << (kBits + 8)));
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  const __m256i pairs = _mm256_maddubs_epi16(weights, bytes);
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 1 << (2 * kBits + 16)));
  const __m256i low = _mm256_and_si256(fours, _mm256_set1_epi64x(0xffffffff));
  const __m256i high = _mm256_slli_epi64(_mm256_srli_epi64(fours, 32), 4 * kBits);
  const __m256i order = _mm256_broadcastsi128_si256(load128(kCodeBytes<kBits>.together));
  const __m256i together = _mm256_shuffle_epi8(_mm256_or_si256(low, high), order);
  store128<false>(out, _mm256_castsi256_si128(together));
  store128<false>(out + 2 * kBits, _mm256_extracti128_si256(together, 1));
}

// Reads 32 bytes at most.
template <uint32_t kBits>
TENSORWIRE_INLINE void unpackTile(const uint8_t* in, uint8_t* codes) {
  const __m256i order = _mm256_broadcastsi128_si256(load128(kCodeBytes<kBits>.apart));
  const __m256i toTop =
      _mm256_broadcastsi128_si256(load128(reinterpret_cast<const uint8_t*>(kCodeBytes<kBits>.toTop)));
  __m256i words[2];
  for (size_t i = 0; i < 2; i++, in += 2 * kBits) {
    // One group of eight codes in each half.
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in));
    const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + kBits));
    const __m256i both = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), order);
    words[i] = _mm256_srli_epi16(_mm256_mullo_epi16(both, toTop), 16 - kBits);
  }
  const __m256i bytes = _mm256_packus_epi16(words[0], words[1]);
  store256<false>(codes, _mm256_permute4x64_epi64(bytes, 0xd8));
}

}  // namespace
}  // namespace tensorwire
