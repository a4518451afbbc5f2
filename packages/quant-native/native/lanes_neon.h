// Four elements of each float type as a vector of f32, and back. Internal linkage throughout: see kernels.h.
#pragma once

#include "kernels.h"

#include <arm_neon.h>
#include <cstring>

namespace tensorwire {
namespace {

constexpr size_t kLanes = 4;
using FloatVector = float32x4_t;
using WordVector = int32x4_t;

// There are no stores past the caches that compilers would write.
constexpr bool kHasStreams = false;
inline void finishStores() {}

inline uint16x4_t load64(const uint8_t* at) { return vreinterpret_u16_u8(vld1_u8(at)); }
inline void store64(uint8_t* at, uint16x4_t v) { vst1_u8(at, vreinterpret_u8_u16(v)); }

inline float32x4_t minimum(float32x4_t x, float32x4_t y) { return vminq_f32(x, y); }
inline float32x4_t maximum(float32x4_t x, float32x4_t y) { return vmaxq_f32(x, y); }
inline float32x4_t floorOf(float32x4_t x) { return vrndmq_f32(x); }
inline float leastOf(float32x4_t x) { return vminvq_f32(x); }
inline float largestOf(float32x4_t x) { return vmaxvq_f32(x); }
inline bool allAtMost(float32x4_t x, float32x4_t y) { return vminvq_u32(vcleq_f32(x, y)) != 0; }

inline int32x4_t limitWords(int32x4_t x, int least, int largest) {
  return vmaxq_s32(vminq_s32(x, vdupq_n_s32(largest)), vdupq_n_s32(least));
}
// Of words that are 0 or -1: whether all are 0, and how many are not.
inline bool noneOf(int32x4_t x) { return vminvq_s32(x) == 0; }
inline uint32_t countOf(int32x4_t x) { return static_cast<uint32_t>(-vaddvq_s32(x)); }

// As many bytes as words, each of them from 0 to 255.
inline int32x4_t loadBytes(const uint8_t* at) {
  uint32_t four;
  memcpy(&four, at, sizeof four);
  const uint16x8_t words = vmovl_u8(vcreate_u8(four));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
}
// Sixteen words as bytes.
inline uint8x16_t bytesOf(const int32x4_t words[4]) {
  const int16x8_t low = vcombine_s16(vmovn_s32(words[0]), vmovn_s32(words[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(words[2]), vmovn_s32(words[3]));
  return vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
// 32 words.
inline void storeBytes(uint8_t* at, const int32x4_t words[8]) {
  vst1q_u8(at, bytesOf(words));
  vst1q_u8(at + 16, bytesOf(words + 4));
}

// Of the low halves.
inline int32x4_t multiplyWords(int32x4_t x, int32x4_t y) {
  const uint32x2_t left = vmovn_u64(vreinterpretq_u64_s32(x)), right = vmovn_u64(vreinterpretq_u64_s32(y));
  return vreinterpretq_s32_u64(vmull_u32(left, right));
}
inline int32x4_t interleaveLow(int32x4_t x, int32x4_t y) {
  return vreinterpretq_s32_u64(vzip1q_u64(vreinterpretq_u64_s32(x), vreinterpretq_u64_s32(y)));
}
inline int32x4_t interleaveHigh(int32x4_t x, int32x4_t y) {
  return vreinterpretq_s32_u64(vzip2q_u64(vreinterpretq_u64_s32(x), vreinterpretq_u64_s32(y)));
}

inline uint32x4_t magnitudeBits(float32x4_t x) {
  return vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffff));
}

// Nearest, ties to even. Not for NaN, whose payload could carry.
inline uint16x4_t roundToBrain(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  return vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
}

inline uint16x4_t roundToHalf(float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }

struct F16 {
  static constexpr DType kDType = DType::kF16;
  static constexpr size_t kBytes = 2;
  static float32x4_t load(const uint8_t* at) { return vcvt_f32_f16(vreinterpret_f16_u16(load64(at))); }
  template <bool kStream>
  static void store(uint8_t* at, float32x4_t v) {
    store64(at, roundToHalf(v));
  }
};

struct BF16 {
  static constexpr DType kDType = DType::kBF16;
  static constexpr size_t kBytes = 2;
  static float32x4_t load(const uint8_t* at) { return vreinterpretq_f32_u32(vshll_n_u16(load64(at), 16)); }
  template <bool kStream>
  static void store(uint8_t* at, float32x4_t v) {
    const uint16x4_t quiet = vorr_u16(vshrn_n_u32(vreinterpretq_u32_f32(v), 16), vdup_n_u16(0x40));
    const uint16x4_t isNumber = vmovn_u32(vceqq_f32(v, v));
    store64(at, vbsl_u16(isNumber, roundToBrain(v), quiet));
  }
};

struct F32 {
  static constexpr DType kDType = DType::kF32;
  static constexpr size_t kBytes = 4;
  static float32x4_t load(const uint8_t* at) { return vreinterpretq_f32_u8(vld1q_u8(at)); }
  template <bool kStream>
  static void store(uint8_t* at, float32x4_t v) {
    vst1q_u8(at, vreinterpretq_u8_f32(v));
  }
};

struct F64 {
  static constexpr DType kDType = DType::kF64;
  static constexpr size_t kBytes = 8;
  static float32x4_t load(const uint8_t* at) {
    const float64x2_t low = vreinterpretq_f64_u8(vld1q_u8(at)), high = vreinterpretq_f64_u8(vld1q_u8(at + 16));
    return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
  }
  template <bool kStream>
  static void store(uint8_t* at, float32x4_t v) {
    vst1q_u8(at, vreinterpretq_u8_f64(vcvt_f64_f32(vget_low_f32(v))));
    vst1q_u8(at + 16, vreinterpretq_u8_f64(vcvt_high_f64_f32(v)));
  }
};

// 64 elements as float16. False where one of them is infinite or NaN.
struct Float16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, uint8_t*) {
    uint16x4_t largest = vdup_n_u16(0);
    for (size_t i = 0; i < 64; i += 4) {
      const uint16x4_t halves = roundToHalf(From::load(in + i * From::kBytes));
      largest = vmax_u16(largest, vand_u16(halves, vdup_n_u16(0x7fff)));
      store64(tile + i * 2, halves);
    }
    return vmaxv_u16(largest) < 0x7c00;
  }
};

// The same as bfloat16.
struct Bfloat16Tile {
  template <class From, bool kStream>
  static bool narrow(const uint8_t* in, uint8_t* tile, uint8_t*) {
    uint32x4_t largest = vdupq_n_u32(0);
    for (size_t i = 0; i < 64; i += 4) {
      const float32x4_t x = From::load(in + i * From::kBytes);
      largest = vmaxq_u32(largest, magnitudeBits(x));
      store64(tile + i * 2, roundToBrain(x));
    }
    return vmaxvq_u32(largest) <= 0x7f7f7fff;
  }
};

// The bits of the largest magnitude, as f32, of each of up to four blocks of a multiple of 32 elements. Magnitudes are
// ordered as their bits are, so that integer maxima do, and an infinity or a NaN, which sort last, is seen in them.
// `largest` has room for all of them.
constexpr size_t kGroup = 4;

template <class From>
void largestMagnitudes(const uint8_t* at, size_t block, size_t blocks, uint32_t* largest) {
  for (size_t b = 0; b < blocks; b++) {
    uint32x4_t rows[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
    for (size_t i = 0; i < block; i += 16) {
      for (size_t r = 0; r < 4; r++, at += 4 * From::kBytes) {
        rows[r] = vmaxq_u32(rows[r], magnitudeBits(From::load(at)));
      }
    }
    largest[b] = vmaxvq_u32(vmaxq_u32(vmaxq_u32(rows[0], rows[1]), vmaxq_u32(rows[2], rows[3])));
  }
}

}  // namespace
}  // namespace tensorwire
