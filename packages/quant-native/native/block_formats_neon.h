// The block formats on 32 elements at a time: products to codes and codes to values. Products are never NaN here.
// Internal linkage throughout: see kernels.h.
#pragma once

#include "dynamic8_steps.h"
#include "four_bit_bins.h"
#include "lanes_neon.h"

namespace tensorwire {
namespace {

struct Blockwise8 {
  static constexpr Codec kCodec = Codec::kBlockwise8;
  static constexpr size_t kTile = 32, kMostEncoded = 512;
  static constexpr size_t codeBytes(size_t elements) { return elements; }

  struct Encoder {
    float32x4_t inverse;
    explicit Encoder(float reciprocal) : inverse(vdupq_n_f32(reciprocal)) {}

    static uint32x4_t clampedMagnitude(float32x4_t x) {
      return vminq_u32(vmaxq_u32(magnitudeBits(x), vdupq_n_u32(kSmallestMagnitude)), vdupq_n_u32(kLargestMagnitude));
    }

    // All keys first: a word is not read while its store is still on its way.
    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t n, uint8_t* out) const {
      uint32_t keys[kMostEncoded];
      for (size_t i = 0; i < n; i += 4) {
        const uint32x4_t magnitude = clampedMagnitude(vmulq_f32(From::load(in + i * From::kBytes), inverse));
        vst1q_u32(keys + i, vsubq_u32(vshrq_n_u32(magnitude, kStepShift), vdupq_n_u32(kFirstKey)));
      }
      for (size_t i = 0; i < n; i += 8) {
        int16x4_t ranks[2];
        for (size_t half = 0; half < 2; half++) {
          const float32x4_t x = vmulq_f32(From::load(in + (i + 4 * half) * From::kBytes), inverse);
          const uint32x4_t low = vandq_u32(clampedMagnitude(x), vdupq_n_u32(kStepLowMask));
          const uint32x4_t rank = vshrq_n_u32(vaddq_u32(low, stepsOf(keys + i + 4 * half)), kStepShift);
          const int32x4_t sign = vshrq_n_s32(vreinterpretq_s32_f32(x), 31);
          ranks[half] = vmovn_s32(vsubq_s32(veorq_s32(vreinterpretq_s32_u32(rank), sign), sign));
        }
        // -128 becomes -1 and saturates to code 0: there is no -1.
        const int16x8_t codes = vaddq_s16(vcombine_s16(ranks[0], ranks[1]), vdupq_n_s16(kZeroCode));
        vst1_u8(out + i, vqmovun_s16(codes));
      }
    }

    static uint32x4_t stepsOf(const uint32_t* keys) {
      const uint32_t* words = kDynamic8Steps.words;
      return uint32x4_t{words[keys[0]], words[keys[1]], words[keys[2]], words[keys[3]]};
    }
  };

  struct Decoder {
    float32x4_t absmax;
    explicit Decoder(float scale) : absmax(vdupq_n_f32(scale)) {}

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      const float* v = kDynamic8;
      for (size_t i = 0; i < kTile; i += 4, in += 4, out += 4 * To::kBytes) {
        const float32x4_t values = {v[in[0]], v[in[1]], v[in[2]], v[in[3]]};
        To::template store<kStream>(out, vmulq_f32(values, absmax));
      }
    }
  };
};

// Sixteen words, by bytes.
struct WordTable {
  uint8x16x4_t bytes;
  explicit WordTable(const void* words) {
    const auto* at = static_cast<const uint8_t*>(words);
    for (size_t i = 0; i < 4; i++) bytes.val[i] = vld1q_u8(at + 16 * i);
  }
  // Zero past the sixteenth.
  uint32x4_t operator[](uint32x4_t index) const {
    const uint32x4_t at = vmlaq_u32(vdupq_n_u32(0x03020100), index, vdupq_n_u32(0x04040404));
    return vreinterpretq_u32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_u32(at)));
  }
};

// What the two 4-bit formats share: `Format` gives the code of each word, and the 16 values.
template <class Format>
struct Nibbles {
  static constexpr size_t kTile = 32, kMostEncoded = kTile;
  static constexpr size_t codeBytes(size_t elements) { return elements / 2 + elements % 2; }

  struct Encoder {
    float32x4_t inverse;
    explicit Encoder(float reciprocal) : inverse(vdupq_n_f32(reciprocal)) {}

    template <class From>
    TENSORWIRE_INLINE void encode(const uint8_t* in, size_t, uint8_t* out) const {
      for (size_t half = 0; half < 2; half++) {
        int32x4_t codes[4];
        for (size_t q = 0; q < 4; q++, in += 4 * From::kBytes) {
          codes[q] = vreinterpretq_s32_u32(Format::code(vmulq_f32(From::load(in), inverse)));
        }
        const uint16x8_t pairs = vreinterpretq_u16_u8(bytesOf(codes));
        // The even element in the high nibble.
        vst1_u8(out + 8 * half, vmovn_u16(vorrq_u16(vshlq_n_u16(pairs, 4), vshrq_n_u16(pairs, 8))));
      }
    }
  };

  struct Decoder {
    WordTable values;  // the block's, scaled
    explicit Decoder(float scale) : values(Scaled(scale).values) {}

    struct Scaled {
      float values[16];
      explicit Scaled(float scale) {
        for (size_t i = 0; i < 16; i++) values[i] = Format::kValues[i] * scale;
      }
    };

    template <class To, bool kStream>
    TENSORWIRE_INLINE void decode(const uint8_t* in, uint8_t* out) const {
      for (size_t half = 0; half < 2; half++) {
        const uint8x8_t bytes = vld1_u8(in + 8 * half);
        const uint8x8_t even = vshr_n_u8(bytes, 4), odd = vand_u8(bytes, vdup_n_u8(15));
        const uint8x8_t codes[2] = {vzip1_u8(even, odd), vzip2_u8(even, odd)};
        for (const uint8x8_t eight : codes) {
          const uint16x8_t words = vmovl_u8(eight);
          To::template store<kStream>(out, vreinterpretq_f32_u32(values[vmovl_u16(vget_low_u16(words))]));
          To::template store<kStream>(out + 4 * To::kBytes, vreinterpretq_f32_u32(values[vmovl_high_u16(words)]));
          out += 8 * To::kBytes;
        }
      }
    }
  };
};

struct Float4 : Nibbles<Float4> {
  static constexpr Codec kCodec = Codec::kFloat4;
  static constexpr const float* kValues = kFp4;

  static uint32x4_t code(float32x4_t x) {
    const float32x4_t magnitude = vabsq_f32(x);
    const uint32x4_t bin = vcvtq_u32_f32(vmulq_f32(magnitude, vdupq_n_f32(kFp4Scale)));
    const uint32x4_t passed = vcgtq_f32(magnitude, vreinterpretq_f32_u32(WordTable(kFp4Bins.threshold)[bin]));
    const uint32x4_t code = vbslq_u32(passed, WordTable(kFp4Bins.above)[bin], WordTable(kFp4Bins.below)[bin]);
    // x < 0 and not its sign: -0 has code 0.
    return vorrq_u32(code, vandq_u32(vcltzq_f32(x), vdupq_n_u32(8)));
  }
};

struct Normfloat4 : Nibbles<Normfloat4> {
  static constexpr Codec kCodec = Codec::kNormfloat4;
  static constexpr const float* kValues = kNf4;

  static uint32x4_t code(float32x4_t x) {
    // At 1.5 * 2^23 a float's ulp is 1: the sum's low bits are the nearest integer, in two's complement.
    const float32x4_t sum = vfmaq_f32(vdupq_n_f32(0x1.8p23f), x, vdupq_n_f32(kNf4Scale));
    const uint32x4_t bin = vandq_u32(vreinterpretq_u32_f32(sum), vdupq_n_u32(31));
    const float32x4_t threshold = vreinterpretq_f32_u32(lookUp(kNf4Bins.threshold, bin));
    return vsubq_u32(lookUp(kNf4Bins.rank, bin), vcgtq_f32(x, threshold));
  }

  // Of 32 words: the half that the index does not lie in gives zero.
  static uint32x4_t lookUp(const void* words, uint32x4_t index) {
    const auto* at = static_cast<const uint8_t*>(words);
    const uint32x4_t beyond = vsubq_u32(index, vdupq_n_u32(16));
    const uint32x4_t high = vandq_u32(WordTable(at + 64)[vandq_u32(beyond, vdupq_n_u32(15))],
                                      vcgtq_u32(index, vdupq_n_u32(15)));
    return vorrq_u32(WordTable(at)[index], high);
  }
};

}  // namespace
}  // namespace tensorwire
