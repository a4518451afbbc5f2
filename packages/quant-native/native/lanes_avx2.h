// Eight elements of each float type as a vector of f32, and back. Internal linkage throughout: see kernels.h.
#pragma once

#include "kernels.h"

#include <cstring>
#include <immintrin.h>

namespace tensorwire {
namespace {

constexpr size_t kLanes = 8;
constexpr bool kHasStreams = true;
using FloatVector = __m256;
using WordVector = __m256i;

inline __m128i load128(const uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// Streaming stores go past the caches, and need an address that is a multiple of their length.
template <bool kStream>
void store128(uint8_t* at, __m128i v) {
  if (kStream) _mm_stream_si128(reinterpret_cast<__m128i*>(at), v);
  else _mm_storeu_si128(reinterpret_cast<__m128i*>(at), v);
}

template <bool kStream>
void store256(uint8_t* at, __m256i v) {
  if (kStream) _mm256_stream_si256(reinterpret_cast<__m256i*>(at), v);
  else _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v);
}

// Streaming stores are seen by other threads in no order, until this.
inline void finishStores() { _mm_sfence(); }

inline __m256 minimum(__m256 x, __m256 y) { return _mm256_min_ps(x, y); }
inline __m256 maximum(__m256 x, __m256 y) { return _mm256_max_ps(x, y); }
inline __m256 floorOf(__m256 x) { return _mm256_floor_ps(x); }

inline float leastOf(__m256 x) {
  __m128 least = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  least = _mm_min_ps(least, _mm_movehl_ps(least, least));
  return _mm_cvtss_f32(_mm_min_ss(least, _mm_movehdup_ps(least)));
}

inline float largestOf(__m256 x) {
  __m128 largest = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  largest = _mm_max_ps(largest, _mm_movehl_ps(largest, largest));
  return _mm_cvtss_f32(_mm_max_ss(largest, _mm_movehdup_ps(largest)));
}

inline bool allAtMost(__m256 x, __m256 y) { return _mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_LE_OQ)) == 0xff; }

inline __m256i limitWords(__m256i x, int least, int largest) {
  return _mm256_max_epi32(_mm256_min_epi32(x, _mm256_set1_epi32(largest)), _mm256_set1_epi32(least));
}
// Of words that are 0 or -1: whether all are 0, and how many are not.
inline bool noneOf(__m256i x) { return _mm256_testz_si256(x, x); }
inline uint32_t countOf(__m256i x) {
  return static_cast<uint32_t>(__builtin_popcount(static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x)))));
}

// 32 codes, each in a word of four vectors, as bytes in order. Words may be negative: they saturate to 0.
inline __m256i bytesInOrder(__m256i packed16a, __m256i packed16b) {
  const __m256i bytes = _mm256_packus_epi16(packed16a, packed16b);
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// As many bytes as words, each of them from 0 to 255.
inline __m256i loadBytes(const uint8_t* at) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
}
// 32 words.
inline void storeBytes(uint8_t* at, const __m256i words[4]) {
  const __m256i low = _mm256_packs_epi32(words[0], words[1]), high = _mm256_packs_epi32(words[2], words[3]);
  store256<false>(at, bytesInOrder(low, high));
}

// Of the low halves.
inline __m256i multiplyWords(__m256i x, __m256i y) { return _mm256_mul_epu32(x, y); }
inline __m256i interleaveLow(__m256i x, __m256i y) { return _mm256_unpacklo_epi64(x, y); }
inline __m256i interleaveHigh(__m256i x, __m256i y) { return _mm256_unpackhi_epi64(x, y); }

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
  template <bool kStream>
  static void store(uint8_t* at, __m256 v) {
    store128<kStream>(at, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
};

struct BF16 {
  static constexpr DType kDType = DType::kBF16;
  static constexpr size_t kBytes = 2;
  static __m256 load(const uint8_t* at) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(at)), 16));
  }
  template <bool kStream>
  static void store(uint8_t* at, __m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i isNaN = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    store128<kStream>(at, lowHalves(_mm256_blendv_epi8(roundToBrain(bits), quiet, isNaN)));
  }
};

struct F32 {
  static constexpr DType kDType = DType::kF32;
  static constexpr size_t kBytes = 4;
  static __m256 load(const uint8_t* at) { return _mm256_loadu_ps(reinterpret_cast<const float*>(at)); }
  template <bool kStream>
  static void store(uint8_t* at, __m256 v) { store256<kStream>(at, _mm256_castps_si256(v)); }
};

struct F64 {
  static constexpr DType kDType = DType::kF64;
  static constexpr size_t kBytes = 8;
  static __m256 load(const uint8_t* at) {
    const __m128 low = _mm256_cvtpd_ps(_mm256_loadu_pd(reinterpret_cast<const double*>(at)));
    const __m128 high = _mm256_cvtpd_ps(_mm256_loadu_pd(reinterpret_cast<const double*>(at + 32)));
    return _mm256_set_m128(high, low);
  }
  template <bool kStream>
  static void store(uint8_t* at, __m256 v) {
    store256<kStream>(at, _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_castps256_ps128(v))));
    store256<kStream>(at + 32, _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))));
  }
};

// 64 elements as float16 to `tile`, and past the caches to `out`. False where one of them is infinite or NaN.
struct Float16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, [[maybe_unused]] uint8_t* out) {
    __m256i largest = _mm256_setzero_si256();
    for (size_t i = 0; i < 64; i += 16) {
      const __m128i low = _mm256_cvtps_ph(From::load(in + i * From::kBytes), _MM_FROUND_TO_NEAREST_INT);
      const __m128i high = _mm256_cvtps_ph(From::load(in + (i + 8) * From::kBytes), _MM_FROUND_TO_NEAREST_INT);
      const __m256i halves = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
      largest = _mm256_max_epu16(largest, _mm256_slli_epi16(halves, 1));
      store256<false>(tile + i * 2, halves);
      if (kStream) store256<true>(out + i * 2, halves);
    }
    const __m256i infinity = _mm256_set1_epi16(static_cast<short>(0xf800));
    return _mm256_testz_si256(_mm256_cmpeq_epi16(_mm256_max_epu16(largest, infinity), largest),
                              _mm256_set1_epi8(-1));
  }
};

// The same as bfloat16.
struct Bfloat16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, [[maybe_unused]] uint8_t* out) {
    __m256i largest = _mm256_setzero_si256();
    for (size_t i = 0; i < 64; i += 16) {
      const __m256 low = From::load(in + i * From::kBytes), high = From::load(in + (i + 8) * From::kBytes);
      largest = _mm256_max_epi32(largest, _mm256_max_epi32(magnitudeBits(low), magnitudeBits(high)));
      const __m256i packed = _mm256_packus_epi32(roundToBrain(_mm256_castps_si256(low)),
                                                 roundToBrain(_mm256_castps_si256(high)));
      const __m256i brains = _mm256_permute4x64_epi64(packed, 0xd8);
      store256<false>(tile + i * 2, brains);
      if (kStream) store256<true>(out + i * 2, brains);
    }
    return _mm256_testz_si256(_mm256_cmpgt_epi32(largest, _mm256_set1_epi32(0x7f7f7fff)), _mm256_set1_epi8(-1));
  }
};

// The bits of the largest magnitude, as f32, of each of up to eight blocks of a multiple of 32 elements. Magnitudes are
// ordered as their bits are, so that integer maxima do, and an infinity or a NaN, which sort last, is seen in them.
// `largest` has room for all of them.
constexpr size_t kGroup = 8;

template <class From>
void largestMagnitudes(const uint8_t* at, size_t block, size_t blocks, uint32_t* largest) {
  __m256i rows[kGroup] = {};
  for (size_t r = 0; r < blocks; r++) {
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < block; i += 32, at += 32 * From::kBytes) {
      a = _mm256_max_epu32(a, magnitudeBits(From::load(at)));
      b = _mm256_max_epu32(b, magnitudeBits(From::load(at + 8 * From::kBytes)));
      c = _mm256_max_epu32(c, magnitudeBits(From::load(at + 16 * From::kBytes)));
      d = _mm256_max_epu32(d, magnitudeBits(From::load(at + 24 * From::kBytes)));
    }
    rows[r] = _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d));
  }
  // Folded two rows into one, three times over: lane b of what is left is row b's.
  for (size_t r = 0; r < 4; r++) {
    const __m256i x = rows[r], y = rows[r + 4];
    rows[r] = _mm256_max_epu32(_mm256_permute2x128_si256(x, y, 0x20), _mm256_permute2x128_si256(x, y, 0x31));
  }
  for (size_t r = 0; r < 2; r++) {
    const __m256i x = rows[r], y = rows[r + 2];
    rows[r] = _mm256_max_epu32(_mm256_unpacklo_epi64(x, y), _mm256_unpackhi_epi64(x, y));
  }
  const __m256 x = _mm256_castsi256_ps(rows[0]), y = _mm256_castsi256_ps(rows[1]);
  const __m256i last = _mm256_max_epu32(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)),
                                        _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)));
  // Rows 0, 2, 1, 3, 4, 6, 5, 7, by the folds above.
  const __m256i order = _mm256_setr_epi32(0, 2, 1, 3, 4, 6, 5, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(largest), _mm256_permutevar8x32_epi32(last, order));
}

}  // namespace
}  // namespace tensorwire
