// The block formats on 32 elements at a time: products to codes and codes to values. Products are never NaN here.
// Internal linkage throughout: see kernels.h.
#pragma once

#include "codebook_tables.h"
#include "dynamic8_steps.h"
#include "lanes_avx2.h"

#include <cstring>

namespace tensorwire {
namespace {

struct Blockwise8 {
  static constexpr Codec kCodec = Codec::kBlockwise8;
  static constexpr size_t kTile = 32, kMostEncoded = 512;
  static constexpr size_t codeBytes(size_t elements) { return elements; }

  struct Encoder {
    __m256 inverse;
    explicit Encoder(float reciprocal) : inverse(_mm256_set1_ps(reciprocal)) {}

    // A key's bits and those below it.
    static __m256i clampedMagnitude(__m256 x) {
      const __m256i magnitude = _mm256_max_epi32(magnitudeBits(x), _mm256_set1_epi32(kSmallestMagnitude));
      return _mm256_min_epi32(magnitude, _mm256_set1_epi32(kLargestMagnitude));
    }

    // All keys first: a word is not read while its store is still on its way.
    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t n, uint8_t* out) const {
      alignas(32) uint16_t keys[kMostEncoded];
      for (size_t i = 0; i < n; i += 16) {
        const __m256i low = clampedMagnitude(_mm256_mul_ps(From::load(in + i * From::kBytes), inverse));
        const __m256i high = clampedMagnitude(_mm256_mul_ps(From::load(in + (i + 8) * From::kBytes), inverse));
        const __m256i packed =
            _mm256_packs_epi32(_mm256_srli_epi32(low, kStepShift), _mm256_srli_epi32(high, kStepShift));
        _mm256_store_si256(reinterpret_cast<__m256i*>(keys + i), _mm256_sub_epi16(packed, _mm256_set1_epi16(kFirstKey)));
      }
      const __m256i zero = _mm256_set1_epi16(kZeroCode);
      for (size_t i = 0; i < n; i += kTile) {
        // Signed ranks: -128 … 128.
        __m256i ranks[4];
        for (size_t q = 0; q < 4; q++) {
          const __m256 x = _mm256_mul_ps(From::load(in + (i + 8 * q) * From::kBytes), inverse);
          const __m256i low = _mm256_and_si256(clampedMagnitude(x), _mm256_set1_epi32(kStepLowMask));
          // Packing has put the keys of each half beside those of the other vector's.
          const __m256i step = stepsOf(keys + i + 16 * (q / 2) + 4 * (q % 2));
          ranks[q] = _mm256_sign_epi32(_mm256_srli_epi32(_mm256_add_epi32(low, step), kStepShift),
                                       _mm256_castps_si256(x));
        }
        // -128 becomes -1 and saturates to code 0: there is no -1.
        store256<false>(out + i, bytesInOrder(_mm256_add_epi16(_mm256_packs_epi32(ranks[0], ranks[1]), zero),
                                              _mm256_add_epi16(_mm256_packs_epi32(ranks[2], ranks[3]), zero)));
      }
    }

    // Loads and insertions, which overlap, take half the time of the processor's own gathering.
    static __m256i stepsOf(const uint16_t* keys) {
      const auto step = [=](size_t i) { return static_cast<int>(kDynamic8Steps.words[keys[i]]); };
      return _mm256_setr_epi32(step(0), step(1), step(2), step(3), step(8), step(9), step(10), step(11));
    }
  };

  struct Decoder {
    __m256 absmax;
    explicit Decoder(float scale) : absmax(_mm256_set1_ps(scale)) {}

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      for (size_t i = 0; i < kTile; i += 8, in += 8) {
        const float* v = kDynamic8;
        const __m256 values =
            _mm256_setr_ps(v[in[0]], v[in[1]], v[in[2]], v[in[3]], v[in[4]], v[in[5]], v[in[6]], v[in[7]]);
        To::template store<kStream>(out + i * To::kBytes, _mm256_mul_ps(values, absmax));
      }
    }
  };
};

// What the two 4-bit formats share: `Format` gives the code of each word, and the 16 values.
template <class Format>
struct Nibbles {
  static constexpr size_t kTile = 32, kMostEncoded = kTile;
  static constexpr size_t codeBytes(size_t elements) { return elements / 2 + elements % 2; }

  struct Encoder {
    __m256 inverse;
    explicit Encoder(float reciprocal) : inverse(_mm256_set1_ps(reciprocal)) {}

    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t, uint8_t* out) const {
      const __m256i a = Format::code(_mm256_mul_ps(From::load(in), inverse));
      const __m256i b = Format::code(_mm256_mul_ps(From::load(in + 8 * From::kBytes), inverse));
      const __m256i c = Format::code(_mm256_mul_ps(From::load(in + 16 * From::kBytes), inverse));
      const __m256i d = Format::code(_mm256_mul_ps(From::load(in + 24 * From::kBytes), inverse));
      const __m256i codes = bytesInOrder(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
      // 16 times the even element plus the odd one.
      const __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0110));
      const __m256i bytes = _mm256_packus_epi16(pairs, pairs);
      store128<false>(out, _mm256_castsi256_si128(_mm256_permute4x64_epi64(bytes, 0x08)));
    }
  };

  struct Decoder {
    __m256 low, high;  // the block's 16 values, scaled
    explicit Decoder(float scale)
        : low(_mm256_mul_ps(_mm256_loadu_ps(Format::kValues), _mm256_set1_ps(scale))),
          high(_mm256_mul_ps(_mm256_loadu_ps(Format::kValues + 8), _mm256_set1_ps(scale))) {}

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      const __m256i shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
      for (size_t i = 0; i < kTile; i += 8) {
        int four;
        memcpy(&four, in + i / 2, sizeof four);
        // A permutation looks at the low three bits of a code; the fourth chooses the half.
        const __m256i codes = _mm256_srlv_epi32(_mm256_set1_epi32(four), shifts);
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));
        To::template store<kStream>(
            out + i * To::kBytes,
            _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, codes), _mm256_permutevar8x32_ps(high, codes), upper));
      }
    }
  };
};

// The rank so far, doubled, and one more where the mask (-1) says that the threshold was passed.
inline __m256i descend(__m256i rank, __m256 passed) {
  return _mm256_sub_epi32(_mm256_add_epi32(rank, rank), _mm256_castps_si256(passed));
}

inline __m256 greater(__m256 x, __m256 threshold) { return _mm256_cmp_ps(x, threshold, _CMP_GT_OQ); }

struct Float4 : Nibbles<Float4> {
  static constexpr Codec kCodec = Codec::kFloat4;
  static constexpr const float* kValues = kFp4;

  static __m256i code(__m256 x) {
    const float* t = kFp4Thresholds;
    const __m256 a = _mm256_castsi256_ps(magnitudeBits(x));
    const __m256 top = greater(a, _mm256_set1_ps(t[3]));
    const __m256 middle = greater(a, _mm256_blendv_ps(_mm256_set1_ps(t[1]), _mm256_set1_ps(t[5]), top));
    __m256i rank = descend(descend(_mm256_setzero_si256(), top), middle);
    const __m256 last = _mm256_setr_ps(t[0], t[2], t[4], t[6], t[0], t[2], t[4], t[6]);
    rank = descend(rank, greater(a, _mm256_permutevar8x32_ps(last, rank)));
    const __m256i magnitude = _mm256_permutevar8x32_epi32(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kFp4Codes))), rank);
    // x < 0 and not its sign: -0 has code 0.
    const __m256i negative = _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
    return _mm256_or_si256(magnitude, _mm256_and_si256(negative, _mm256_set1_epi32(8)));
  }
};

struct Normfloat4 : Nibbles<Normfloat4> {
  static constexpr Codec kCodec = Codec::kNormfloat4;
  static constexpr const float* kValues = kNf4;

  static __m256i code(__m256 x) {
    const float* t = kNf4Thresholds;
    const __m256 top = greater(x, _mm256_set1_ps(t[7]));
    const __m256 second = greater(x, _mm256_blendv_ps(_mm256_set1_ps(t[3]), _mm256_set1_ps(t[11]), top));
    __m256i rank = descend(descend(_mm256_setzero_si256(), top), second);
    const __m256 third = _mm256_setr_ps(t[1], t[5], t[9], t[13], t[1], t[5], t[9], t[13]);
    rank = descend(rank, greater(x, _mm256_permutevar8x32_ps(third, rank)));
    const __m256 last = _mm256_setr_ps(t[0], t[2], t[4], t[6], t[8], t[10], t[12], t[14]);
    return descend(rank, greater(x, _mm256_permutevar8x32_ps(last, rank)));
  }
};

}  // namespace
}  // namespace tensorwire
