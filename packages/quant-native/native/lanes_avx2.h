// Eight elements of each float type as a vector of f32, and back. Everything here has internal linkage: an inline
// function compiled with AVX2 and shared with the scalar file could be the one that the linker keeps for both.
#pragma once

#include "formats.h"

#include <immintrin.h>

namespace tensorwire {
namespace {

inline __m128i load128(const uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }
inline void store128(uint8_t* at, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(at), v); }
inline void store256(uint8_t* at, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v); }

inline __m256i magnitudeBits(__m256 x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}

// f32 bits to bfloat16 in the low half of each word: nearest, ties to even. Not for NaN, whose payload could carry.
inline __m256i roundToBrain(__m256i bits) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
}

// The low halves of eight words, in order.
inline __m128i lowHalves(__m256i words) {
  const __m256i packed = _mm256_packus_epi32(words, words);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}

struct F16 {
  static constexpr DType kDType = DType::kF16;
  static constexpr size_t kBytes = 2;
  static __m256 load(const uint8_t* at) { return _mm256_cvtph_ps(load128(at)); }
  static void store(uint8_t* at, __m256 v) { store128(at, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
};

struct BF16 {
  static constexpr DType kDType = DType::kBF16;
  static constexpr size_t kBytes = 2;
  static __m256 load(const uint8_t* at) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(at)), 16));
  }
  static void store(uint8_t* at, __m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i isNaN = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    store128(at, lowHalves(_mm256_blendv_epi8(roundToBrain(bits), quiet, isNaN)));
  }
};

struct F32 {
  static constexpr DType kDType = DType::kF32;
  static constexpr size_t kBytes = 4;
  static __m256 load(const uint8_t* at) { return _mm256_loadu_ps(reinterpret_cast<const float*>(at)); }
  static void store(uint8_t* at, __m256 v) { _mm256_storeu_ps(reinterpret_cast<float*>(at), v); }
};

struct F64 {
  static constexpr DType kDType = DType::kF64;
  static constexpr size_t kBytes = 8;
  static __m256 load(const uint8_t* at) {
    const __m128 low = _mm256_cvtpd_ps(_mm256_loadu_pd(reinterpret_cast<const double*>(at)));
    const __m128 high = _mm256_cvtpd_ps(_mm256_loadu_pd(reinterpret_cast<const double*>(at + 32)));
    return _mm256_set_m128(high, low);
  }
  static void store(uint8_t* at, __m256 v) {
    double* out = reinterpret_cast<double*>(at);
    _mm256_storeu_pd(out, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    _mm256_storeu_pd(out + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }
};

// The bits of the largest magnitude, as f32, of a multiple of 32 elements. Magnitudes are ordered as their bits are, so
// that integer maxima do, and an infinity or a NaN, which sort last, is seen in the result.
template <class From>
uint32_t largestMagnitude(const uint8_t* at, size_t elements) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (size_t i = 0; i < elements; i += 32, at += 32 * From::kBytes) {
    a = _mm256_max_epu32(a, magnitudeBits(From::load(at)));
    b = _mm256_max_epu32(b, magnitudeBits(From::load(at + 8 * From::kBytes)));
    c = _mm256_max_epu32(c, magnitudeBits(From::load(at + 16 * From::kBytes)));
    d = _mm256_max_epu32(d, magnitudeBits(From::load(at + 24 * From::kBytes)));
  }
  a = _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d));
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

}  // namespace
}  // namespace tensorwire
