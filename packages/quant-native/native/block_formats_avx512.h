// The block formats with 512 bits and permutations of bytes: products to codes and codes to values. Products are never
// NaN here. Internal linkage throughout: see kernels.h.
#pragma once

#include "dynamic8_octaves.h"
#include "four_bit_bins.h"
#include "lanes_avx512.h"

namespace tensorwire {
namespace {

// Sixty-four elements are four vectors of words or one of bytes. Bytes that are to be unpacked to words have this order:
// in lane L, at 4q + r, the byte of vector q's word 4L + r.
struct TopBytes {
  // Of two vectors of words (q = 0 and 1, and again).
  alignas(64) uint8_t index[64] = {};
  constexpr TopBytes() {
    for (uint32_t i = 0; i < 64; i++) {
      const uint32_t lane = i / 16, q = i / 4 % 2, r = i % 4;
      index[i] = static_cast<uint8_t>(64 * q + 4 * (4 * lane + r) + 3);
    }
  }
};

constexpr TopBytes kTopBytes{};

struct Blockwise8 {
  static constexpr Codec kCodec = Codec::kBlockwise8;
  static constexpr size_t kTile = 64, kMostEncoded = kTile;
  static constexpr size_t codeBytes(size_t elements) { return elements; }

  // 256 bytes, by index.
  struct Table {
    __m512i quarter[4];
    explicit Table(const uint8_t* bytes)
        : quarter{load512(bytes), load512(bytes + 64), load512(bytes + 128), load512(bytes + 192)} {}
    __m512i operator[](__m512i index) const {
      const __m512i low = _mm512_permutex2var_epi8(quarter[0], index, quarter[1]);
      const __m512i high = _mm512_permutex2var_epi8(quarter[2], index, quarter[3]);
      return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(index), high);
    }
  };

  struct Encoder {
    __m512 inverse;
    explicit Encoder(float reciprocal) : inverse(_mm512_set1_ps(reciprocal)) {}

    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t, uint8_t* out) const {
      const __m512i shifts[2] = {load512(kDynamic8Octaves.shift), load512(kDynamic8Octaves.shift + 16)};
      const __m512i offsets[2] = {load512(kDynamic8Octaves.offset), load512(kDynamic8Octaves.offset + 16)};
      __m512i words[4];
      uint64_t negative = 0;
      for (size_t q = 0; q < 4; q++) {
        const __m512 x = _mm512_mul_ps(From::load(in + q * 16 * From::kBytes), inverse);
        negative |= static_cast<uint64_t>(_mm512_movepi32_mask(_mm512_castps_si512(x))) << (16 * q);
        const __m512i smallest = _mm512_set1_epi32(kFirstOctave << 23);
        const __m512i magnitude = _mm512_max_epu32(magnitudeBits(x), smallest);
        const __m512i octave = _mm512_srli_epi32(magnitude, 23);
        words[q] = _mm512_add_epi32(
            _mm512_sllv_epi32(magnitude, _mm512_permutex2var_epi32(shifts[0], octave, shifts[1])),
            _mm512_permutex2var_epi32(offsets[0], octave, offsets[1]));
      }

      const __m512i bins = topBytes(words);
      const __m512i first = Table(kDynamic8Octaves.step[0])[bins], second = Table(kDynamic8Octaves.step[1])[bins];
      const __m512i third = Table(kDynamic8Octaves.step[2])[bins], fourth = Table(kDynamic8Octaves.step[3])[bins];
      __m512i steps[4];
      unpack(first, second, third, fourth, steps);
      for (size_t q = 0; q < 4; q++) words[q] = _mm512_add_epi32(words[q], steps[q]);

      const __m512i ranks = inOrder(topBytes(words)), zero = _mm512_set1_epi8(kMagnitudeZeroCode);
      // Saturated: rank 128 of a negative has the code of 127, as there is no -1.
      store512<false>(out, _mm512_mask_subs_epu8(_mm512_add_epi8(zero, ranks), negative, zero, ranks));
    }
  };

  struct Decoder {
    __m512 absmax;
    explicit Decoder(float scale) : absmax(_mm512_set1_ps(scale)) {}

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      const __m512i codes = inOrder(load512(in)), zero = _mm512_set1_epi8(kMagnitudeZeroCode);
      const __mmask64 negative = _mm512_cmplt_epu8_mask(codes, zero);
      const __mmask64 one = _mm512_cmpeq_epi8_mask(codes, _mm512_set1_epi8(-1));
      const __m512i magnitude = _mm512_abs_epi8(_mm512_sub_epi8(codes, zero));
      __m512i plane[4];
      for (size_t k = 0; k < 4; k++) {
        const uint8_t* bytes = kDynamic8Planes.bytes[k];
        plane[k] = _mm512_permutex2var_epi8(load512(bytes), magnitude, load512(bytes + 64));
      }
      // The look-up of 128 has given 0.
      plane[2] = _mm512_mask_mov_epi8(plane[2], one, _mm512_set1_epi8(static_cast<char>(0x80)));
      plane[3] = _mm512_mask_mov_epi8(plane[3], one, _mm512_set1_epi8(0x3f));
      const __m512i sign = _mm512_maskz_mov_epi8(negative, _mm512_set1_epi8(static_cast<char>(0x80)));
      plane[3] = _mm512_or_si512(plane[3], sign);
      __m512i values[4];
      unpack(plane[0], plane[1], plane[2], plane[3], values);
      for (size_t q = 0; q < 4; q++) {
        To::template store<kStream>(out + q * 16 * To::kBytes, _mm512_mul_ps(_mm512_castsi512_ps(values[q]), absmax));
      }
    }
  };

  // The top byte of each word, in the order described above.
  static __m512i topBytes(const __m512i words[4]) {
    const __m512i index = load512(kTopBytes.index);
    const __m512i low = _mm512_permutex2var_epi8(words[0], index, words[1]);
    const __m512i high = _mm512_permutex2var_epi8(words[2], index, words[3]);
    return _mm512_mask_mov_epi64(low, 0xaa, high);
  }

  // From the order described above to that of the elements, or back: the words of a square, transposed.
  static __m512i inOrder(__m512i bytes) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }

  // Words of four bytes each, the first the lowest.
  static void unpack(__m512i first, __m512i second, __m512i third, __m512i fourth, __m512i words[4]) {
    const __m512i low01 = _mm512_unpacklo_epi8(first, second), high01 = _mm512_unpackhi_epi8(first, second);
    const __m512i low23 = _mm512_unpacklo_epi8(third, fourth), high23 = _mm512_unpackhi_epi8(third, fourth);
    words[0] = _mm512_unpacklo_epi16(low01, low23);
    words[1] = _mm512_unpackhi_epi16(low01, low23);
    words[2] = _mm512_unpacklo_epi16(high01, high23);
    words[3] = _mm512_unpackhi_epi16(high01, high23);
  }
};

// What the two 4-bit formats share, 32 elements at a time: `Format` gives the code of each word, and the 16 values.
template <class Format>
struct Nibbles {
  static constexpr size_t kTile = 32, kMostEncoded = kTile;
  static constexpr size_t codeBytes(size_t elements) { return elements / 2 + elements % 2; }

  struct Encoder {
    __m512 inverse;
    explicit Encoder(float reciprocal) : inverse(_mm512_set1_ps(reciprocal)) {}

    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t, uint8_t* out) const {
      const __m512i low = Format::code(_mm512_mul_ps(From::load(in), inverse));
      const __m512i high = Format::code(_mm512_mul_ps(From::load(in + 16 * From::kBytes), inverse));
      // 16 times the even element plus the odd one.
      const __m512i pairs = _mm512_madd_epi16(_mm512_packs_epi32(low, high), _mm512_set1_epi32(0x00010010));
      // The low bytes of each vector's pairs: of each lane's first two words, then of their last two.
      const __m512i order = _mm512_castsi128_si512(
          _mm_setr_epi8(0, 4, 16, 20, 32, 36, 48, 52, 8, 12, 24, 28, 40, 44, 56, 60));
      const __m128i bytes = _mm512_castsi512_si128(_mm512_permutexvar_epi8(order, pairs));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    }
  };

  struct Decoder {
    __m512 values;  // the block's, scaled
    explicit Decoder(float scale) : values(_mm512_mul_ps(_mm512_loadu_ps(Format::kValues), _mm512_set1_ps(scale))) {}

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      const __m128i odd = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
      const __m128i even = _mm_srli_epi16(odd, 4);
      // A permutation looks at the low four bits of each word.
      const __m512i low = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(even, odd));
      const __m512i high = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(even, odd));
      To::template store<kStream>(out, _mm512_permutexvar_ps(low, values));
      To::template store<kStream>(out + 16 * To::kBytes, _mm512_permutexvar_ps(high, values));
    }
  };
};

struct Float4 : Nibbles<Float4> {
  static constexpr Codec kCodec = Codec::kFloat4;
  static constexpr const float* kValues = kFp4;

  static __m512i code(__m512 x) {
    const __m512 magnitude = _mm512_castsi512_ps(magnitudeBits(x));
    const __m512i bin = _mm512_cvttps_epi32(_mm512_mul_ps(magnitude, _mm512_set1_ps(kFp4Scale)));
    const __m512 threshold = _mm512_permutexvar_ps(bin, _mm512_load_ps(kFp4Bins.threshold));
    const __mmask16 passed = _mm512_cmp_ps_mask(magnitude, threshold, _CMP_GT_OQ);
    const __m512i below = _mm512_permutexvar_epi32(bin, load512(kFp4Bins.below));
    const __m512i code = _mm512_mask_permutexvar_epi32(below, passed, bin, load512(kFp4Bins.above));
    // x < 0 and not its sign: -0 has code 0.
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_or_epi32(code, negative, code, _mm512_set1_epi32(8));
  }
};

struct Normfloat4 : Nibbles<Normfloat4> {
  static constexpr Codec kCodec = Codec::kNormfloat4;
  static constexpr const float* kValues = kNf4;

  static __m512i code(__m512 x) {
    // At 1.5 * 2^23 a float's ulp is 1: the sum's low bits are the nearest integer, in two's complement.
    const __m512 sum = _mm512_fmadd_ps(x, _mm512_set1_ps(kNf4Scale), _mm512_set1_ps(0x1.8p23f));
    const __m512i bin = _mm512_castps_si512(sum);
    const float* t = kNf4Bins.threshold;
    const __m512 threshold = _mm512_permutex2var_ps(_mm512_load_ps(t), bin, _mm512_load_ps(t + 16));
    const __mmask16 passed = _mm512_cmp_ps_mask(x, threshold, _CMP_GT_OQ);
    const uint32_t* r = kNf4Bins.rank;
    const __m512i rank = _mm512_permutex2var_epi32(load512(r), bin, load512(r + 16));
    return _mm512_mask_add_epi32(rank, passed, rank, _mm512_set1_epi32(1));
  }
};

}  // namespace
}  // namespace tensorwire
