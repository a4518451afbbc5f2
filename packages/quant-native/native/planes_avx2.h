// Bytes of equal significance to planes, and back, 32 elements at a time. Internal linkage throughout: see
// kernels.h.
#pragma once

#include "planes_scalar.h"

#include <immintrin.h>

namespace tensorwire {
namespace {

constexpr size_t kPlaneStep = 32;

inline __m256i loadStep(const uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
inline void storeStep(uint8_t* at, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v); }

// 32 words to the four vectors of their bytes.
inline void splitWords(const __m256i words[4], __m256i bytes[4]) {
  // In each half of a vector: byte 0 of its four words, byte 1, byte 2, byte 3.
  const __m256i gather = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                          0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  // The halves hold every other four elements.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i a = _mm256_shuffle_epi8(words[0], gather), b = _mm256_shuffle_epi8(words[1], gather);
  const __m256i c = _mm256_shuffle_epi8(words[2], gather), d = _mm256_shuffle_epi8(words[3], gather);
  const __m256i ab01 = _mm256_unpacklo_epi32(a, b), ab23 = _mm256_unpackhi_epi32(a, b);
  const __m256i cd01 = _mm256_unpacklo_epi32(c, d), cd23 = _mm256_unpackhi_epi32(c, d);
  bytes[0] = _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi64(ab01, cd01), order);
  bytes[1] = _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi64(ab01, cd01), order);
  bytes[2] = _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi64(ab23, cd23), order);
  bytes[3] = _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi64(ab23, cd23), order);
}

// 32 of each of four bytes to words.
inline void joinWords(const __m256i bytes[4], __m256i words[4]) {
  const __m256i low0 = _mm256_unpacklo_epi8(bytes[0], bytes[1]), low1 = _mm256_unpackhi_epi8(bytes[0], bytes[1]);
  const __m256i high0 = _mm256_unpacklo_epi8(bytes[2], bytes[3]), high1 = _mm256_unpackhi_epi8(bytes[2], bytes[3]);
  const __m256i a = _mm256_unpacklo_epi16(low0, high0), b = _mm256_unpackhi_epi16(low0, high0);
  const __m256i c = _mm256_unpacklo_epi16(low1, high1), d = _mm256_unpackhi_epi16(low1, high1);
  // Lower halves are elements 0 … 15, upper ones 16 … 31.
  words[0] = _mm256_permute2x128_si256(a, b, 0x20);
  words[1] = _mm256_permute2x128_si256(c, d, 0x20);
  words[2] = _mm256_permute2x128_si256(a, b, 0x31);
  words[3] = _mm256_permute2x128_si256(c, d, 0x31);
}

template <size_t kWidth>
struct PlaneStep;

template <>
struct PlaneStep<2> {
  static void split(const uint8_t* in, __m256i planes[2]) {
    const __m256i a = loadStep(in), b = loadStep(in + 32), low = _mm256_set1_epi16(0xff);
    const __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
    const __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    planes[0] = _mm256_permute4x64_epi64(even, 0xd8);
    planes[1] = _mm256_permute4x64_epi64(odd, 0xd8);
  }

  static void join(const __m256i planes[2], uint8_t* out) {
    const __m256i a = _mm256_unpacklo_epi8(planes[0], planes[1]), b = _mm256_unpackhi_epi8(planes[0], planes[1]);
    storeStep(out, _mm256_permute2x128_si256(a, b, 0x20));
    storeStep(out + 32, _mm256_permute2x128_si256(a, b, 0x31));
  }
};

template <>
struct PlaneStep<4> {
  static void split(const uint8_t* in, __m256i planes[4]) {
    const __m256i words[4] = {loadStep(in), loadStep(in + 32), loadStep(in + 64), loadStep(in + 96)};
    splitWords(words, planes);
  }

  static void join(const __m256i planes[4], uint8_t* out) {
    __m256i words[4];
    joinWords(planes, words);
    for (size_t i = 0; i < 4; i++) storeStep(out + 32 * i, words[i]);
  }
};

template <>
struct PlaneStep<8> {
  static void split(const uint8_t* in, __m256i planes[8]) {
    __m256i low[4], high[4];
    for (size_t i = 0; i < 4; i++) {
      const __m256 a = _mm256_castsi256_ps(loadStep(in + 64 * i)), b = _mm256_castsi256_ps(loadStep(in + 64 * i + 32));
      low[i] = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88)), 0xd8);
      high[i] = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);
    }
    splitWords(low, planes);
    splitWords(high, planes + 4);
  }

  static void join(const __m256i planes[8], uint8_t* out) {
    __m256i low[4], high[4];
    joinWords(planes, low);
    joinWords(planes + 4, high);
    for (size_t i = 0; i < 4; i++) {
      const __m256i a = _mm256_unpacklo_epi32(low[i], high[i]), b = _mm256_unpackhi_epi32(low[i], high[i]);
      storeStep(out + 64 * i, _mm256_permute2x128_si256(a, b, 0x20));
      storeStep(out + 64 * i + 32, _mm256_permute2x128_si256(a, b, 0x31));
    }
  }
};

template <size_t kWidth>
void splitPlanes(const uint8_t* source, size_t elements, uint8_t* planes, PayloadHash& hash) {
  RunningHash running(hash);
  size_t i = 0;
  for (; i + kPlaneStep <= elements; i += kPlaneStep) {
    __m256i step[kWidth];
    PlaneStep<kWidth>::split(source + i * kWidth, step);
    for (size_t k = 0; k < kWidth; k++) storeStep(planes + k * elements + i, step[k]);
    // The first plane's bytes, which are the payload's beginning.
    running.advance(planes + i + kPlaneStep);
  }
  running.finish();
  scalar::splitFrom<kWidth>(i, source, elements, planes);
}

template <size_t kWidth>
inline void joinStep(const uint8_t* const* planes, size_t i, uint8_t* target) {
  __m256i step[kWidth];
  for (size_t k = 0; k < kWidth; k++) step[k] = loadStep(planes[k] + i);
  PlaneStep<kWidth>::join(step, target + i * kWidth);
}

template <size_t kWidth>
void joinPlanes(const uint8_t* const* planes, size_t elements, uint8_t* target, uint64_t* lanes) {
  size_t i = 0;
  if (lanes == nullptr) {
    for (; i + kPlaneStep <= elements; i += kPlaneStep) joinStep<kWidth>(planes, i, target);
  } else {
    static_assert(kPlaneStep == xxh64::kStripe, "a step is a stripe of each plane");
    scalar::PlaneStripes stripes(planes, elements, lanes);
    for (; i + kPlaneStep <= elements; i += kPlaneStep) {
      stripes.add(kWidth);
      joinStep<kWidth>(planes, i, target);
    }
    stripes.finish();
  }
  scalar::joinFrom<kWidth>(i, planes, elements, target);
}

constexpr PlaneKernels kAvx2Planes = {{splitPlanes<2>, splitPlanes<4>, splitPlanes<8>},
                                      {joinPlanes<2>, joinPlanes<4>, joinPlanes<8>}};

}  // namespace
}  // namespace tensorwire
