// linear2 … linear8, the same for every instruction set: over the lanes_ and code_bits_ headers that were included
// before.
//
// On their way codes are a byte each, a block at a time: so that what depends on a codec's bits and what depends on a
// tensor's dtype meet nowhere.
//
// Blocks with NaN, infinity or a range that overflows, which are rare, go to the scalar kernels.
#pragma once

#include "linear_codes.h"

#include <cmath>

namespace tensorwire {
namespace {

// Elements whose codes are bytes at one time when they are decoded: of one block, or of a part of one.
constexpr size_t kRun = 256;

// False where the block has something that its codes cannot carry.
inline bool symmetricScale(uint32_t largestBits, const LinearLevels& levels, BlockScale& block) {
  const float most = static_cast<float>(levels.largest);
  float largest;
  memcpy(&largest, &largestBits, 4);
  const float scale = largest / most, inverse = 1 / scale;
  if (!(most * scale < HUGE_VALF)) return false;
  block = {};
  if (scale != 0 && inverse < HUGE_VALF) block = {scale, 0, inverse};
  return true;
}

inline bool affineScale(float least, float largest, const LinearLevels& levels, BlockScale& block) {
  const float most = static_cast<float>(levels.largest);
  least += 0.0f;
  const float span = largest - least, scale = span / most, inverse = 1 / scale;
  if (!(span < HUGE_VALF) || !(most * scale + least < HUGE_VALF)) return false;
  block = {0, least, 0};
  if (scale != 0 && inverse < HUGE_VALF) block = {scale, least, inverse};
  return true;
}

struct Extent {
  float least, largest;
};

// Of a multiple of 32 elements, none of which is NaN.
template <class From>
Extent extentOf(const uint8_t* in, size_t n) {
  Floats least[2] = {From::load(in), From::load(in)}, largest[2] = {least[0], least[0]};
  for (size_t i = 0; i < n; i += 2 * kLanes) {
    for (size_t v = 0; v < 2; v++) {
      const Floats x = From::load(in + (i + v * kLanes) * From::kBytes);
      least[v] = minimum(least[v], x);
      largest[v] = maximum(largest[v], x);
    }
  }
  return {leastOf(minimum(least[0], least[1])), largestOf(maximum(largest[0], largest[1]))};
}

// One call's source, and where what it makes goes.
template <class From>
struct LinearEncoder {
  uint32_t bits;
  const uint8_t* source;
  size_t elements;
  const LinearParameters& parameters;
  uint8_t* codes;
  EncodeLinearKernel scalar = kScalarKernels.linear.encode[bits - 2][floatIndex(From::kDType)];
  const LinearLevels levels = {bits, parameters.affine};
  const uint8_t* end = codes + elements / 8 * bits;

  // Elements `first` … `first + n - 1`: whole tiles, at most a largest block.
  template <bool kCounting>
  uint64_t encode(size_t first, size_t n, size_t ahead, const BlockScale& block) const {
    alignas(64) uint8_t bytes[kMaxBlock];
    uint8_t* out = codes + first / 8 * bits;
    const uint64_t limited = quantize<From, kCounting>(source + first * From::kBytes, first, n, ahead, block, levels,
                                                       parameters, bits == 8 ? out : bytes);
    if (bits < 8) kPackCodes[bits - 2](bytes, n, out, end);
    return limited;
  }

  Counts encodeScalar(size_t first, size_t n, size_t block, uint8_t* scales, uint8_t* offsets) const {
    LinearParameters rest = parameters;
    rest.first += first;
    return scalar(source + first * From::kBytes, n, block, rest, scales, offsets, codes + first / 8 * bits);
  }

  // With a scale that is known to all, elements are not finite, or limited, each by itself.
  Counts encodeShared() const {
    Counts counts;
    const BlockScale block = {parameters.scale, 0, 1 / parameters.scale};
    size_t first = 0;
    for (; first + kSharedRun <= elements; first += kSharedRun) {
      uint32_t largest[kGroup];
      largestMagnitudes<From>(source + first * From::kBytes, kSharedRun, 1, largest);
      if (largest[0] < kInfinityBits) {
        counts.clamped += encode<true>(first, kSharedRun, kAhead, block);
      } else {
        add(counts, encodeScalar(first, kSharedRun, 1, nullptr, nullptr));
        counts.slow += kSharedRun;
      }
    }
    if (first < elements) add(counts, encodeScalar(first, elements - first, 1, nullptr, nullptr));
    return counts;
  }

  Counts encodeBlocks(size_t block, uint8_t* scales, uint8_t* offsets) const {
    Counts counts;
    uint32_t largest[kGroup];
    const size_t whole = elements - elements % block;
    const size_t most = kGroupElements / block < kGroup ? kGroupElements / block : kGroup;
    for (size_t first = 0; first < whole;) {
      const size_t left = (whole - first) / block, blocks = left < most ? left : most;
      const size_t ahead = blocks * block * From::kBytes + kAhead;
      largestMagnitudes<From>(source + first * From::kBytes, block, blocks, largest);
      for (size_t b = 0; b < blocks; b++, first += block, scales += 4, offsets += 4) {
        BlockScale scale;
        bool ordinary = largest[b] < kInfinityBits;
        if (ordinary && parameters.affine) {
          const Extent extent = extentOf<From>(source + first * From::kBytes, block);
          ordinary = affineScale(extent.least, extent.largest, levels, scale);
        } else if (ordinary) {
          ordinary = symmetricScale(largest[b], levels, scale);
        }
        if (!ordinary) {
          add(counts, encodeScalar(first, block, block, scales, offsets));
          counts.slow += block;
          continue;
        }
        memcpy(scales, &scale.scale, 4);
        if (parameters.affine) memcpy(offsets, &scale.offset, 4);
        encode<false>(first, block, ahead, scale);
      }
    }
    if (whole < elements) add(counts, encodeScalar(whole, elements - whole, block, scales, offsets));
    return counts;
  }

  static constexpr size_t kSharedRun = 256;
};

template <uint32_t kBits, class From>
Counts encodeLinear(const uint8_t* source, size_t elements, size_t block, const LinearParameters& parameters,
                    uint8_t* scales, uint8_t* offsets, uint8_t* codes) {
  const LinearEncoder<From> encoder = {kBits, source, elements, parameters, codes};
  // Four elements share what is drawn at once: chunks begin with the first of them.
  if (parameters.stochastic && parameters.first % 4 != 0) {
    return encoder.encodeScalar(0, elements, block, scales, offsets);
  }
  return parameters.scale != 0 ? encoder.encodeShared() : encoder.encodeBlocks(block, scales, offsets);
}

template <class To, bool kStream>
void decodeLinearAll(uint32_t bits, const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes,
                     size_t elements, size_t block, const LinearParameters& parameters, uint8_t* target,
                     PayloadHash& payload) {
  RunningHash hash(payload);
  const bool shared = parameters.scale != 0;
  if (shared) block = kRun;
  const size_t whole = elements - elements % block;
  const uint8_t* end = codes + elements / 8 * bits;
  const LinearLevels levels(bits, parameters.affine);
  alignas(64) uint8_t bytes[kRun];
  for (size_t first = 0; first < whole;) {
    float scale = parameters.scale, offset = 0;
    if (!shared) memcpy(&scale, scales + first / block * 4, 4);
    if (parameters.affine) memcpy(&offset, offsets + first / block * 4, 4);
    for (const size_t last = first + block; first < last;) {
      const size_t n = last - first < kRun ? last - first : kRun;
      const uint8_t* in = codes + first / 8 * bits;
      prefetchPage<kStream>(target + first * To::kBytes, n * To::kBytes);
      if (bits < 8) kUnpackCodes[bits - 2](in, n, bytes, end);
      dequantize<To, kStream>(bits < 8 ? bytes : in, n, levels.bias, scale, parameters.affine ? &offset : nullptr,
                              target + first * To::kBytes);
      hash.advance(in + n / 8 * bits);
      first += n;
    }
  }
  if (kStream) finishStores();
  hash.finish();
  if (whole < elements) {
    const size_t b = shared ? 0 : whole / block;
    kScalarKernels.linear.decode[bits - 2][floatIndex(To::kDType)](scales + 4 * b, offsets + 4 * b, codes + whole / 8 * bits,
                                                             elements - whole, block, parameters,
                                                             target + whole * To::kBytes, payload);
  }
}

template <uint32_t kBits, class To>
void decodeLinear(const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes, size_t elements, size_t block,
                  const LinearParameters& parameters, uint8_t* target, PayloadHash& payload) {
  const auto decode = streams(target, elements * To::kBytes) ? decodeLinearAll<To, true> : decodeLinearAll<To, false>;
  decode(kBits, scales, offsets, codes, elements, block, parameters, target, payload);
}

constexpr LinearKernels kVectorLinear = {TENSORWIRE_EACH_BITS(encodeLinear), TENSORWIRE_EACH_BITS(decodeLinear)};

}  // namespace
}  // namespace tensorwire
