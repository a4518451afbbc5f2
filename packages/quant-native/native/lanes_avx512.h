// Sixteen elements of each float type as a vector of f32, and back. Internal linkage throughout: see kernels.h.
#pragma once

#include "kernels.h"

// GCC 12 warns of its own header's undefined vectors, wherever they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace tensorwire {
namespace {

constexpr size_t kLanes = 16;
constexpr bool kHasStreams = true;
using FloatVector = __m512;
using WordVector = __m512i;

inline __m256i load256(const uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
inline __m512i load512(const void* at) { return _mm512_loadu_si512(at); }

// Streaming stores go past the caches, and need an address that is a multiple of their length.
template <bool kStream>
void store256(uint8_t* at, __m256i v) {
  if (kStream) _mm256_stream_si256(reinterpret_cast<__m256i*>(at), v);
  else _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v);
}

template <bool kStream>
void store512(uint8_t* at, __m512i v) {
  if (kStream) _mm512_stream_si512(reinterpret_cast<__m512i*>(at), v);
  else _mm512_storeu_si512(at, v);
}

// Streaming stores are seen by other threads in no order, until this.
inline void finishStores() { _mm_sfence(); }

inline __m512 minimum(__m512 x, __m512 y) { return _mm512_min_ps(x, y); }
inline __m512 maximum(__m512 x, __m512 y) { return _mm512_max_ps(x, y); }
inline __m512 floorOf(__m512 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline float leastOf(__m512 x) { return _mm512_reduce_min_ps(x); }
inline float largestOf(__m512 x) { return _mm512_reduce_max_ps(x); }
inline bool allAtMost(__m512 x, __m512 y) { return _mm512_cmp_ps_mask(x, y, _CMP_LE_OQ) == 0xffff; }

inline __m512i limitWords(__m512i x, int least, int largest) {
  return _mm512_max_epi32(_mm512_min_epi32(x, _mm512_set1_epi32(largest)), _mm512_set1_epi32(least));
}
// Of words that are 0 or -1: whether all are 0, and how many are not.
inline bool noneOf(__m512i x) { return _mm512_movepi32_mask(x) == 0; }
inline uint32_t countOf(__m512i x) { return static_cast<uint32_t>(__builtin_popcount(_mm512_movepi32_mask(x))); }

// As many bytes as words, each of them from 0 to 255.
inline __m512i loadBytes(const uint8_t* at) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
// 32 words.
inline void storeBytes(uint8_t* at, const __m512i words[2]) {
  const __m128i low = _mm512_cvtepi32_epi8(words[0]), high = _mm512_cvtepi32_epi8(words[1]);
  store256<false>(at, _mm256_set_m128i(high, low));
}

// Of the low halves.
inline __m512i multiplyWords(__m512i x, __m512i y) { return _mm512_mul_epu32(x, y); }
inline __m512i interleaveLow(__m512i x, __m512i y) { return _mm512_unpacklo_epi64(x, y); }
inline __m512i interleaveHigh(__m512i x, __m512i y) { return _mm512_unpackhi_epi64(x, y); }

inline __m512i magnitudeBits(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

// bfloat16 in the high half of each word: nearest, ties to even. Not for NaN, whose payload could carry. Integers, since
// the processor's own conversion flushes subnormals.
inline __m512i roundToBrain(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  return _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1));
}

inline __m256i highHalves(__m512i words) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)); }

struct HighHalves {
  // Of two vectors of words.
  alignas(64) uint16_t index[32] = {};
  constexpr HighHalves() {
    for (uint32_t i = 0; i < 32; i++) index[i] = static_cast<uint16_t>(2 * i + 1);
  }
};

constexpr HighHalves kHighHalves{};

struct F16 {
  static constexpr DType kDType = DType::kF16;
  static constexpr size_t kBytes = 2;
  static __m512 load(const uint8_t* at) { return _mm512_cvtph_ps(load256(at)); }
  template <bool kStream>
  static void store(uint8_t* at, __m512 v) {
    store256<kStream>(at, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};

struct BF16 {
  static constexpr DType kDType = DType::kBF16;
  static constexpr size_t kBytes = 2;
  static __m512 load(const uint8_t* at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(at)), 16));
  }
  template <bool kStream>
  static void store(uint8_t* at, __m512 v) {
    const __m512i quiet = _mm512_or_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x400000));
    const __mmask16 isNaN = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    store256<kStream>(at, highHalves(_mm512_mask_mov_epi32(roundToBrain(v), isNaN, quiet)));
  }
};

struct F32 {
  static constexpr DType kDType = DType::kF32;
  static constexpr size_t kBytes = 4;
  static __m512 load(const uint8_t* at) { return _mm512_loadu_ps(at); }
  template <bool kStream>
  static void store(uint8_t* at, __m512 v) {
    store512<kStream>(at, _mm512_castps_si512(v));
  }
};

struct F64 {
  static constexpr DType kDType = DType::kF64;
  static constexpr size_t kBytes = 8;
  static __m512 load(const uint8_t* at) {
    const __m256 low = _mm512_cvtpd_ps(_mm512_loadu_pd(at)), high = _mm512_cvtpd_ps(_mm512_loadu_pd(at + 64));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
  }
  template <bool kStream>
  static void store(uint8_t* at, __m512 v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    store512<kStream>(at, _mm512_castpd_si512(low));
    store512<kStream>(at + 64, _mm512_castpd_si512(high));
  }
};

// 64 elements as float16 to `tile`, and past the caches to `out`. False where one of them is infinite or NaN.
struct Float16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, [[maybe_unused]] uint8_t* out) {
    __m512i halves[2];
    for (size_t i = 0; i < 2; i++, in += 32 * From::kBytes) {
      constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
      const __m256i low = _mm512_cvtps_ph(From::load(in), kNearest);
      const __m256i high = _mm512_cvtps_ph(From::load(in + 16 * From::kBytes), kNearest);
      halves[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
      store512<false>(tile + i * 64, halves[i]);
      if (kStream) store512<true>(out + i * 64, halves[i]);
    }
    const __m512i largest =
        _mm512_max_epu16(_mm512_slli_epi16(halves[0], 1), _mm512_slli_epi16(halves[1], 1));
    return _mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(static_cast<short>(0xf800))) == 0;
  }
};

// The same as bfloat16.
struct Bfloat16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, [[maybe_unused]] uint8_t* out) {
    __m512i largest = _mm512_setzero_si512();
    for (size_t i = 0; i < 64; i += 32) {
      const __m512 low = From::load(in + i * From::kBytes), high = From::load(in + (i + 16) * From::kBytes);
      largest = _mm512_max_epu32(largest, _mm512_max_epu32(magnitudeBits(low), magnitudeBits(high)));
      const __m512i brains =
          _mm512_permutex2var_epi16(roundToBrain(low), load512(kHighHalves.index), roundToBrain(high));
      store512<false>(tile + i * 2, brains);
      if (kStream) store512<true>(out + i * 2, brains);
    }
    return _mm512_cmpgt_epu32_mask(largest, _mm512_set1_epi32(0x7f7f7fff)) == 0;
  }
};

// The bits of the largest magnitude, as f32, of each of up to sixteen blocks of a multiple of 32 elements. Magnitudes
// are ordered as their bits are, so that integer maxima do, and an infinity or a NaN, which sort last, is seen in them.
constexpr size_t kGroup = 16;

template <class From>
void largestMagnitudes(const uint8_t* at, size_t block, size_t blocks, uint32_t* largest) {
  __m512i rows[kGroup];
  for (size_t b = 0; b < blocks; b++) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (size_t i = 0; i < block; i += 32, at += 32 * From::kBytes) {
      even = _mm512_max_epu32(even, magnitudeBits(From::load(at)));
      odd = _mm512_max_epu32(odd, magnitudeBits(From::load(at + 16 * From::kBytes)));
    }
    rows[b] = _mm512_max_epu32(even, odd);
  }
  if (blocks < kGroup) {
    for (size_t b = 0; b < blocks; b++) largest[b] = _mm512_reduce_max_epu32(rows[b]);
    return;
  }
  // Folded two rows into one, four times over: lane b of what is left is row b's.
  for (size_t b = 0; b < 8; b++) {
    const __m512i x = rows[b], y = rows[b + 8];
    rows[b] = _mm512_max_epu32(_mm512_shuffle_i64x2(x, y, 0x44), _mm512_shuffle_i64x2(x, y, 0xee));
  }
  for (size_t b = 0; b < 4; b++) {
    const __m512i x = rows[b], y = rows[b + 4];
    rows[b] = _mm512_max_epu32(_mm512_shuffle_i64x2(x, y, 0x88), _mm512_shuffle_i64x2(x, y, 0xdd));
  }
  for (size_t b = 0; b < 2; b++) {
    const __m512i x = rows[b], y = rows[b + 2];
    rows[b] = _mm512_max_epu32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
  }
  const __m512 x = _mm512_castsi512_ps(rows[0]), y = _mm512_castsi512_ps(rows[1]);
  const __m512i last = _mm512_max_epu32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                                        _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
  // Which row each lane has become follows from the folds above.
  const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
  _mm512_storeu_si512(largest, _mm512_permutexvar_epi32(order, last));
}

}  // namespace
}  // namespace tensorwire
