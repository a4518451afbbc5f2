// linear2 … linear8 one element at a time. Internal linkage: vector files may take these where they have nothing better,
// compiled with flags of their own.
#pragma once

#include "elements_scalar.h"
#include "kernel_table.h"
#include "philox.h"

namespace tensorwire {
namespace scalar {
namespace {

// The whole numbers that codes stand for, and what is added to one to make its code.
template <uint32_t kBits>
struct SymmetricLevels {
  static constexpr int32_t kLargest = (1 << (kBits - 1)) - 1, kLeast = -kLargest, kBias = kLargest;
};
template <uint32_t kBits>
struct AffineLevels {
  static constexpr int32_t kLargest = (1 << kBits) - 1, kLeast = 0, kBias = 0;
};

// To the nearest whole number, ties to even, of |t| below 2^22: the sum has no room for a fraction.
inline float roundToEven(float t) {
  constexpr float kNoFraction = 0x1.8p23f;
  return (t + kNoFraction) - kNoFraction;
}

// Rounds elements in order, from index `first` of their tensor on.
class Rounding {
 public:
  explicit Rounding(const LinearParameters& parameters) : parameters_(parameters) {}

  // The whole number for `t` that lies next to it, or, of those beyond the levels, one that does so too.
  template <class L>
  int32_t round(float t, size_t index) {
    constexpr float kBelow = static_cast<float>(L::kLeast - 2), kAbove = static_cast<float>(L::kLargest + 2);
    t = t < kBelow ? kBelow : t > kAbove ? kAbove : t;
    if (!parameters_.stochastic) return static_cast<int32_t>(roundToEven(t));
    int32_t whole = static_cast<int32_t>(t);
    whole -= t < static_cast<float>(whole);
    const float fraction = (t - static_cast<float>(whole)) * 0x1p24f;
    return whole + (static_cast<float>(draw(index)) < fraction);
  }

 private:
  uint32_t draw(size_t index) {
    const uint64_t element = parameters_.first + index;
    if (!drawn_ || element / 4 != group_) {
      group_ = element / 4;
      words_ = philox(group_, parameters_.tensor, parameters_.seed);
      drawn_ = true;
    }
    return words_.words[element % 4] >> 8;
  }

  const LinearParameters& parameters_;
  uint64_t group_ = 0;
  PhiloxWords words_ = {};
  bool drawn_ = false;
};

// Codes of `kBits` bits one behind the other, the first in the lowest bits. Begins and ends with a byte.
template <uint32_t kBits>
class CodeWriter {
 public:
  explicit CodeWriter(uint8_t* at) : at_(at) {}
  void put(uint32_t code) {
    bits_ |= code << filled_;
    filled_ += kBits;
    if (filled_ >= 8) {
      *at_++ = static_cast<uint8_t>(bits_);
      bits_ >>= 8;
      filled_ -= 8;
    }
  }
  void finish() {
    if (filled_ > 0) *at_ = static_cast<uint8_t>(bits_);
  }

 private:
  uint8_t* at_;
  uint32_t bits_ = 0, filled_ = 0;
};

template <uint32_t kBits>
class CodeReader {
 public:
  explicit CodeReader(const uint8_t* at) : at_(at) {}
  uint32_t take() {
    if (filled_ < kBits) {
      bits_ |= static_cast<uint32_t>(*at_++) << filled_;
      filled_ += 8;
    }
    const uint32_t code = bits_ & ((1u << kBits) - 1);
    bits_ >>= kBits;
    filled_ -= kBits;
    return code;
  }

 private:
  const uint8_t* at_;
  uint32_t bits_ = 0, filled_ = 0;
};

// How a block's elements become whole numbers: t = (x - offset) × inverse. Every code is zero's where inverse is 0.
struct BlockScale {
  float scale = 0, offset = 0, inverse = 0;
};

template <uint32_t kBits, class From>
BlockScale symmetricScale(const uint8_t* in, size_t n, Counts& counts) {
  constexpr float kLargest = static_cast<float>(SymmetricLevels<kBits>::kLargest);
  float largest = 0;
  uint64_t nonFinite = 0;
  for (size_t i = 0; i < n; i++) {
    const float magnitude = fromBits(bitsOf(From::load(in, i)) & kMagnitudeMask);
    if (magnitude > largest) largest = magnitude;
    nonFinite += isNonFinite(magnitude);
  }
  counts.nonFinite += nonFinite;
  if (nonFinite != 0) return {};
  const float scale = largest / kLargest, inverse = 1 / scale;
  if (isNonFinite(kLargest * scale)) {
    counts.nonFinite += n;
    return {};
  }
  if (scale == 0 || isNonFinite(inverse)) return {};
  return {scale, 0, inverse};
}

template <uint32_t kBits, class From>
BlockScale affineScale(const uint8_t* in, size_t n, Counts& counts) {
  constexpr float kLargest = static_cast<float>(AffineLevels<kBits>::kLargest);
  float least = From::load(in, 0), largest = least;
  uint64_t nonFinite = 0;
  for (size_t i = 0; i < n; i++) {
    const float value = From::load(in, i);
    if (value < least) least = value;
    if (value > largest) largest = value;
    nonFinite += isNonFinite(value);
  }
  counts.nonFinite += nonFinite;
  if (nonFinite != 0) return {};
  least += 0.0f;
  const float span = largest - least, scale = span / kLargest, inverse = 1 / scale;
  if (isNonFinite(span) || isNonFinite(kLargest * scale + least)) {
    counts.nonFinite += n;
    return {};
  }
  if (scale == 0 || isNonFinite(inverse)) return {0, least, 0};
  return {scale, least, inverse};
}

// Elements `first` … `first + n - 1`, whose bytes begin at `in`.
template <uint32_t kBits, class L, class From>
void quantize(const uint8_t* in, size_t first, size_t n, const BlockScale& block, Rounding& rounding, uint8_t* codes) {
  CodeWriter<kBits> writer(codes);
  for (size_t i = 0; i < n; i++) {
    int32_t level = 0;
    if (block.inverse != 0) {
      level = rounding.template round<L>((From::load(in, i) - block.offset) * block.inverse, first + i);
      level = level < L::kLeast ? L::kLeast : level > L::kLargest ? L::kLargest : level;
    }
    writer.put(static_cast<uint32_t>(level + L::kBias));
  }
  writer.finish();
}

// With a scale that is known to all, elements are not finite, or clamped, each by itself.
template <uint32_t kBits, class From>
Counts encodeShared(const uint8_t* source, size_t elements, const LinearParameters& parameters, uint8_t* codes) {
  using L = SymmetricLevels<kBits>;
  Counts counts;
  Rounding rounding(parameters);
  CodeWriter<kBits> writer(codes);
  const float inverse = 1 / parameters.scale;
  for (size_t i = 0; i < elements; i++) {
    const float value = From::load(source, i);
    int32_t level = 0;
    if (isNonFinite(value)) {
      counts.nonFinite++;
    } else {
      level = rounding.template round<L>(value * inverse, i);
      counts.clamped += level < L::kLeast || level > L::kLargest;
      level = level < L::kLeast ? L::kLeast : level > L::kLargest ? L::kLargest : level;
    }
    writer.put(static_cast<uint32_t>(level + L::kBias));
  }
  writer.finish();
  return counts;
}

template <uint32_t kBits, class From>
Counts encodeLinear(const uint8_t* source, size_t elements, size_t block, const LinearParameters& parameters,
                    uint8_t* scales, uint8_t* offsets, uint8_t* codes) {
  if (parameters.scale != 0) return encodeShared<kBits, From>(source, elements, parameters, codes);
  Counts counts;
  Rounding rounding(parameters);
  for (size_t first = 0, b = 0; first < elements; first += block, b++) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = source + first * From::kBytes;
    uint8_t* out = codes + first / 8 * kBits;
    const BlockScale scale =
        parameters.affine ? affineScale<kBits, From>(in, n, counts) : symmetricScale<kBits, From>(in, n, counts);
    storeAt(scales, b, scale.scale);
    if (parameters.affine) {
      storeAt(offsets, b, scale.offset);
      quantize<kBits, AffineLevels<kBits>, From>(in, first, n, scale, rounding, out);
    } else {
      quantize<kBits, SymmetricLevels<kBits>, From>(in, first, n, scale, rounding, out);
    }
  }
  return counts;
}

template <uint32_t kBits, class To>
void decodeLinear(const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes, size_t elements, size_t block,
                  const LinearParameters& parameters, uint8_t* target, PayloadHash&) {
  if (parameters.scale != 0) block = elements;
  for (size_t first = 0, b = 0; first < elements; first += block, b++) {
    const size_t n = elements - first < block ? elements - first : block;
    uint8_t* out = target + first * To::kBytes;
    CodeReader<kBits> reader(codes + first / 8 * kBits);
    const float scale = parameters.scale != 0 ? parameters.scale : loadAt<float>(scales, b);
    if (parameters.affine) {
      const float offset = loadAt<float>(offsets, b);
      for (size_t i = 0; i < n; i++) To::store(out, i, static_cast<float>(reader.take()) * scale + offset);
    } else {
      constexpr int32_t kBias = SymmetricLevels<kBits>::kBias;
      for (size_t i = 0; i < n; i++) {
        To::store(out, i, static_cast<float>(static_cast<int32_t>(reader.take()) - kBias) * scale);
      }
    }
  }
}

constexpr LinearKernels kLinear = {TENSORWIRE_EACH_BITS(encodeLinear), TENSORWIRE_EACH_BITS(decodeLinear)};

}  // namespace
}  // namespace scalar
}  // namespace tensorwire
