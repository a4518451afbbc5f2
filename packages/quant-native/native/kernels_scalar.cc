// The codecs one element at a time, in plain C++: what runs where no vector file was compiled, and what the vector files
// call for blocks with NaN, infinity or a reciprocal that overflows.

#include "adaquant_scalar.h"
#include "codebook_tables.h"
#include "dynamic8_steps.h"
#include "elements_scalar.h"
#include "kernel_table.h"
#include "linear_scalar.h"
#include "planes_scalar.h"

#include <cfloat>

namespace tensorwire {
namespace scalar {
namespace {

template <class From, class To>
void convert(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash&) {
  for (size_t i = 0; i < elements; i++) To::store(target, i, From::load(source, i));
}

template <class From>
Counts toFloat16(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash&) {
  Counts counts;
  for (size_t i = 0; i < elements; i++) {
    const float value = From::load(source, i);
    uint16_t half = toHalf(value);
    if ((half & 0x7c00) == 0x7c00) {
      if (isNonFinite(value)) {
        counts.nonFinite++;
      } else {
        half = (half & 0x8000) | 0x7bff;
        counts.clamped++;
      }
    }
    storeAt(target, i, half);
  }
  return counts;
}

template <class From>
Counts toBfloat16(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash&) {
  Counts counts;
  for (size_t i = 0; i < elements; i++) {
    const uint16_t brain = toBrain(From::load(source, i));
    counts.nonFinite += (brain & 0x7f80) == 0x7f80;
    storeAt(target, i, brain);
  }
  return counts;
}

struct Blockwise8 {
  static constexpr bool kTwoPerByte = false;
  static constexpr size_t codeBytes(size_t elements) { return elements; }

  static uint32_t codeOf(float x) {
    if (x != x) return 0;
    uint32_t magnitude = bitsOf(x) & kMagnitudeMask;
    if (magnitude < kSmallestMagnitude) magnitude = kSmallestMagnitude;
    if (magnitude > kLargestMagnitude) magnitude = kLargestMagnitude;
    const uint32_t step = kDynamic8Steps.words[(magnitude >> kStepShift) - kFirstKey];
    const uint32_t rank = ((magnitude & kStepLowMask) + step) >> kStepShift;
    // Negative where the sign bit is set, without a branch that half of all elements would mispredict. There is no -1:
    // rank -128 has the code of -127.
    const uint32_t sign = 0 - (bitsOf(x) >> 31);
    const int32_t code = static_cast<int32_t>(kZeroCode + ((rank ^ sign) - sign));
    return code < 0 ? 0 : static_cast<uint32_t>(code);
  }

  static void put(uint8_t* codes, size_t i, uint32_t code) { codes[i] = static_cast<uint8_t>(code); }
  static float valueAt(const uint8_t* codes, size_t i) { return kDynamic8[codes[i]]; }
};

// Two codes a byte, the even element in the high nibble. Even elements come first and clear the low one.
struct Nibbles {
  static constexpr bool kTwoPerByte = true;
  static constexpr size_t codeBytes(size_t elements) { return elements / 2 + elements % 2; }

  static void put(uint8_t* codes, size_t i, uint32_t code) {
    if (i % 2 == 0) codes[i / 2] = static_cast<uint8_t>(code << 4);
    else codes[i / 2] = static_cast<uint8_t>(codes[i / 2] | code);
  }

  static uint32_t codeAt(const uint8_t* codes, size_t i) { return (codes[i / 2] >> (i % 2 == 0 ? 4 : 0)) & 15; }
};

struct Float4 : Nibbles {
  static uint32_t codeOf(float x) {
    const float a = fromBits(bitsOf(x) & kMagnitudeMask);
    uint32_t rank = a > kFp4Thresholds[3] ? 4 : 0;
    rank += a > kFp4Thresholds[rank + 1] ? 2 : 0;
    rank += a > kFp4Thresholds[rank] ? 1 : 0;
    return kFp4Codes[rank] | (x < 0 ? 8 : 0);
  }

  static float valueAt(const uint8_t* codes, size_t i) { return kFp4[codeAt(codes, i)]; }
};

struct Normfloat4 : Nibbles {
  static uint32_t codeOf(float x) {
    uint32_t rank = x > kNf4Thresholds[7] ? 8 : 0;
    rank += x > kNf4Thresholds[rank + 3] ? 4 : 0;
    rank += x > kNf4Thresholds[rank + 1] ? 2 : 0;
    rank += x > kNf4Thresholds[rank] ? 1 : 0;
    return rank;
  }

  static float valueAt(const uint8_t* codes, size_t i) { return kNf4[codeAt(codes, i)]; }
};

template <class Format, class From>
Counts encodeBlocks(const uint8_t* source, size_t elements, size_t block, uint8_t* scales, uint8_t* codes) {
  Counts counts;
  for (size_t first = 0, b = 0; first < elements; first += block, b++) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = source + first * From::kBytes;
    uint8_t* out = codes + Format::codeBytes(first);

    // The CUDA kernel's reduction: fmaxf, which ignores NaN, over a block that is padded with zeros to its full size.
    float absmax = n < block ? 0.0f : -FLT_MAX;
    for (size_t i = 0; i < n; i++) {
      const float magnitude = fromBits(bitsOf(From::load(in, i)) & kMagnitudeMask);
      if (magnitude > absmax) absmax = magnitude;
      counts.nonFinite += isNonFinite(magnitude);
    }
    storeAt(scales, b, absmax);

    // One reciprocal a block, then products: a quotient would give other codes.
    const float inverse = 1.0f / absmax;
    for (size_t i = 0; i < n; i++) Format::put(out, i, Format::codeOf(From::load(in, i) * inverse));
    // The other half of the last byte is the code of a padding zero.
    if (Format::kTwoPerByte && n % 2 == 1) Format::put(out, n, Format::codeOf(0.0f * inverse));
  }
  return counts;
}

template <class Format, class To>
void decodeBlocks(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block, uint8_t* target,
                  PayloadHash&) {
  for (size_t first = 0, b = 0; first < elements; first += block, b++) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = codes + Format::codeBytes(first);
    uint8_t* out = target + first * To::kBytes;
    const float absmax = loadAt<float>(scales, b);
    for (size_t i = 0; i < n; i++) To::store(out, i, Format::valueAt(in, i) * absmax);
  }
}

constexpr Kernels kTable = TENSORWIRE_KERNEL_TABLE("scalar", kLinear, kAdaquant, kPlanes);

}  // namespace
}  // namespace scalar

const Kernels kScalarKernels = scalar::kTable;

}  // namespace tensorwire
