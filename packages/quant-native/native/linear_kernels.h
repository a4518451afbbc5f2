// linear2 … linear8, the same for every instruction set: over the lanes_ and code_bits_ headers that were included
// before. Arithmetic is written with the compilers' vector types.
//
// Blocks with NaN, infinity or a range that overflows, which are rare, go to the scalar kernels; and with a scale that
// is known to all, tiles with an element beyond it.
#pragma once

#include "linear_scalar.h"
#include "vector_kernels.h"

#include <cfloat>
#include <cmath>

namespace tensorwire {
namespace {

constexpr size_t kCodeTile = 32;
// What packing and unpacking a tile may touch, whatever it needs.
constexpr size_t kCodeRoom = 32;
constexpr size_t kTileVectors = kCodeTile / kLanes;

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Words = int32_t __attribute__((vector_size(4 * kLanes)));
using Pairs = uint64_t __attribute__((vector_size(4 * kLanes)));

using scalar::AffineLevels;
using scalar::BlockScale;
using scalar::SymmetricLevels;

inline Floats spread(float x) { return x - Floats{}; }

// A tile's numbers from 0 to 2^24 - 1, as f32. `first` is the index of its first element, a multiple of 4.
inline void drawTile(const LinearParameters& parameters, uint64_t first, Floats draws[kTileVectors]) {
  constexpr size_t kCounters = kLanes / 2;
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (size_t v = 0; v < kTileVectors; v += 2) {
    // Interleaving takes the even ones first.
    Pairs counters;
    for (size_t i = 0; i < kCounters; i++) counters[i] = v / 2 * kCounters + i % 2 * (kCounters / 2) + i / 2;
    counters += first / 4;
    // Only the low half of a pair counts.
    Pairs a = counters, b = counters >> 32;
    Pairs c = Pairs{} + parameters.tensor, d = Pairs{} + (parameters.tensor >> 32);
    uint32_t key0 = static_cast<uint32_t>(parameters.seed), key1 = static_cast<uint32_t>(parameters.seed >> 32);
    for (int round = 0; round < 10; round++, key0 += kWeyl0, key1 += kWeyl1) {
      const Pairs even = Pairs(multiplyWords(WordVector(a), WordVector(Pairs{} + kMultiplier0)));
      const Pairs odd = Pairs(multiplyWords(WordVector(c), WordVector(Pairs{} + kMultiplier1)));
      a = (odd >> 32) ^ b ^ key0;
      b = odd;
      c = (even >> 32) ^ d ^ key1;
      d = even;
    }
    const Pairs ab = (a & 0xffffffff) | b << 32, cd = (c & 0xffffffff) | d << 32;
    using Unsigned = uint32_t __attribute__((vector_size(4 * kLanes)));
    const Unsigned low = Unsigned(interleaveLow(WordVector(ab), WordVector(cd))) >> 8;
    const Unsigned high = Unsigned(interleaveHigh(WordVector(ab), WordVector(cd))) >> 8;
    draws[v] = __builtin_convertvector(Words(low), Floats);
    draws[v + 1] = __builtin_convertvector(Words(high), Floats);
  }
}

inline Words nearest(Floats t) {
  // At 1.5 * 2^23 a float's ulp is 1: the sum's low bits are the nearest whole number.
  const Floats sum = t + 0x1.8p23f;
  return Words(sum) - 0x4b400000;
}

inline Words drawn(Floats t, Floats draw) {
  const Floats below = floorOf(t);
  const Words up = draw < (t - below) * 0x1p24f;
  return __builtin_convertvector(below, Words) - up;
}

// Limited to two levels beyond the last: what is rounded up or down from there is limited again.
template <class L, class From>
TENSORWIRE_INLINE void wholeTile(const uint8_t* in, const BlockScale& block, const LinearParameters& parameters,
                                 uint64_t first, Words whole[kTileVectors]) {
  const Floats above = spread(static_cast<float>(L::kLargest + 2)), below = spread(static_cast<float>(L::kLeast - 2));
  Floats draws[kTileVectors];
  if (parameters.stochastic) drawTile(parameters, parameters.first + first, draws);
  for (size_t v = 0; v < kTileVectors; v++) {
    const Floats x = From::load(in + v * kLanes * From::kBytes);
    const Floats t = maximum(minimum((x - block.offset) * block.inverse, above), below);
    whole[v] = parameters.stochastic ? drawn(t, draws[v]) : nearest(t);
  }
}

template <uint32_t kBits, class L>
TENSORWIRE_INLINE void packWhole(const Words whole[kTileVectors], uint8_t* out) {
  WordVector codes[kTileVectors];
  for (size_t v = 0; v < kTileVectors; v++) {
    codes[v] = WordVector(limitWords(WordVector(whole[v]), L::kLeast, L::kLargest));
    codes[v] = WordVector(Words(codes[v]) + L::kBias);
  }
  packCodes<kBits>(codes, out);
}

// One block, which is whole tiles. `end` is where the codes end: what packing writes beyond a tile, the next one
// overwrites, and the last ones take a way round.
template <uint32_t kBits, class L, class From>
void encodeCodes(const uint8_t* in, size_t first, size_t n, const BlockScale& block,
                 const LinearParameters& parameters, uint8_t* out, const uint8_t* end) {
  for (size_t i = 0; i < n; i += kCodeTile, in += kCodeTile * From::kBytes, out += 4 * kBits) {
    prefetch(in + kGroupElements * From::kBytes, kCodeTile * From::kBytes);
    uint8_t room[kCodeRoom];
    const bool fits = end - out >= static_cast<ptrdiff_t>(kCodeRoom);
    Words whole[kTileVectors];
    wholeTile<L, From>(in, block, parameters, first + i, whole);
    packWhole<kBits, L>(whole, fits ? out : room);
    if (!fits) memcpy(out, room, 4 * kBits);
  }
}

// False where the block has something that its codes cannot carry.
template <uint32_t kBits>
bool symmetricScale(uint32_t largestBits, BlockScale& block) {
  constexpr float kLargest = static_cast<float>(SymmetricLevels<kBits>::kLargest);
  float largest;
  memcpy(&largest, &largestBits, 4);
  const float scale = largest / kLargest, inverse = 1 / scale;
  if (!(kLargest * scale < HUGE_VALF)) return false;
  block = {};
  if (scale != 0 && inverse < HUGE_VALF) block = {scale, 0, inverse};
  return true;
}

template <uint32_t kBits>
bool affineScale(float least, float largest, BlockScale& block) {
  constexpr float kLargest = static_cast<float>(AffineLevels<kBits>::kLargest);
  least += 0.0f;
  const float span = largest - least, scale = span / kLargest, inverse = 1 / scale;
  if (!(span < HUGE_VALF) || !(kLargest * scale + least < HUGE_VALF)) return false;
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

template <uint32_t kBits, class From>
Counts encodeShared(const uint8_t* source, size_t elements, const LinearParameters& parameters, uint8_t* codes) {
  using L = SymmetricLevels<kBits>;
  Counts counts;
  const BlockScale block = {parameters.scale, 0, 1 / parameters.scale};
  const uint8_t* end = codes + elements / 8 * kBits;
  const auto encodeRest = [&](size_t first, size_t n) {
    LinearParameters rest = parameters;
    rest.first += first;
    add(counts, scalar::kLinear.encode[kBits - 2][floatIndex(From::kDType)](
                    source + first * From::kBytes, n, 1, rest, nullptr, nullptr, codes + first / 8 * kBits));
  };
  size_t i = 0;
  for (; i + kCodeTile <= elements; i += kCodeTile) {
    const uint8_t* in = source + i * From::kBytes;
    uint8_t* out = codes + i / 8 * kBits;
    prefetch(in + kAhead, kCodeTile * From::kBytes);
    bool finite = true;
    for (size_t v = 0; v < kTileVectors; v++) {
      const Words magnitude = Words(From::load(in + v * kLanes * From::kBytes)) & 0x7fffffff;
      finite &= allAtMost(Floats(magnitude), spread(FLT_MAX));
    }
    if (!finite || end - out < static_cast<ptrdiff_t>(kCodeRoom)) {
      encodeRest(i, kCodeTile);
      if (!finite) counts.slow += kCodeTile;
      continue;
    }
    Words whole[kTileVectors], beyond = {};
    wholeTile<L, From>(in, block, parameters, i, whole);
    for (size_t v = 0; v < kTileVectors; v++) beyond |= (whole[v] > L::kLargest) | (whole[v] < L::kLeast);
    if (!noneOf(WordVector(beyond))) {
      for (size_t v = 0; v < kTileVectors; v++) {
        counts.clamped += countOf(WordVector((whole[v] > L::kLargest) | (whole[v] < L::kLeast)));
      }
    }
    packWhole<kBits, L>(whole, out);
  }
  if (i < elements) encodeRest(i, elements - i);
  return counts;
}

template <uint32_t kBits, class From>
Counts encodeLinear(const uint8_t* source, size_t elements, size_t block, const LinearParameters& parameters,
                    uint8_t* scales, uint8_t* offsets, uint8_t* codes) {
  const EncodeLinearKernel scalar = scalar::kLinear.encode[kBits - 2][floatIndex(From::kDType)];
  // Four elements share what is drawn at once: chunks begin with the first of them.
  if (parameters.stochastic && parameters.first % 4 != 0) {
    return scalar(source, elements, block, parameters, scales, offsets, codes);
  }
  if (parameters.scale != 0) return encodeShared<kBits, From>(source, elements, parameters, codes);

  Counts counts;
  uint32_t largest[kGroup];
  LinearParameters rest = parameters;
  const uint8_t* end = codes + elements / 8 * kBits;
  const size_t whole = elements - elements % block;
  const size_t most = kGroupElements / block < kGroup ? kGroupElements / block : kGroup;
  for (size_t first = 0; first < whole;) {
    const size_t left = (whole - first) / block, blocks = left < most ? left : most;
    largestMagnitudes<From>(source + first * From::kBytes, block, blocks, largest);
    for (size_t b = 0; b < blocks; b++, first += block, scales += 4, offsets += 4) {
      const uint8_t* in = source + first * From::kBytes;
      uint8_t* out = codes + first / 8 * kBits;
      BlockScale scale;
      bool ordinary = largest[b] < kInfinityBits;
      if (ordinary && parameters.affine) {
        const Extent extent = extentOf<From>(in, block);
        ordinary = affineScale<kBits>(extent.least, extent.largest, scale);
      } else if (ordinary) {
        ordinary = symmetricScale<kBits>(largest[b], scale);
      }
      if (!ordinary) {
        rest.first = parameters.first + first;
        add(counts, scalar(in, block, block, rest, scales, offsets, out));
        counts.slow += block;
        continue;
      }
      memcpy(scales, &scale.scale, 4);
      if (parameters.affine) {
        memcpy(offsets, &scale.offset, 4);
        encodeCodes<kBits, AffineLevels<kBits>, From>(in, first, block, scale, parameters, out, end);
      } else {
        encodeCodes<kBits, SymmetricLevels<kBits>, From>(in, first, block, scale, parameters, out, end);
      }
    }
  }
  if (whole < elements) {
    rest.first = parameters.first + whole;
    add(counts, scalar(source + whole * From::kBytes, elements - whole, block, rest, scales, offsets,
                       codes + whole / 8 * kBits));
  }
  return counts;
}

template <uint32_t kBits, bool kAffine, class To, bool kStream>
void decodeLinearAll(const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes, size_t elements, size_t block,
                     const LinearParameters& parameters, uint8_t* target, PayloadHash& payload) {
  constexpr int32_t kBias = kAffine ? 0 : SymmetricLevels<kBits>::kBias;
  RunningHash hash(payload);
  const bool shared = parameters.scale != 0;
  const uint8_t* end = codes + elements / 8 * kBits;
  size_t first = 0;
  for (size_t b = 0; first < elements; b++) {
    const size_t n = shared || elements - first < block ? elements - first : block;
    if (n < kCodeTile) break;
    float scale = parameters.scale, offset = 0;
    if (!shared) memcpy(&scale, scales + 4 * b, 4);
    if (kAffine) memcpy(&offset, offsets + 4 * b, 4);
    for (const size_t last = first + n - n % kCodeTile; first < last; first += kCodeTile) {
      const uint8_t* in = codes + first / 8 * kBits;
      uint8_t room[kCodeRoom];
      if (end - in < static_cast<ptrdiff_t>(kCodeRoom)) in = static_cast<uint8_t*>(memcpy(room, in, 4 * kBits));
      WordVector words[kTileVectors];
      unpackCodes<kBits>(in, words);
      for (size_t v = 0; v < kTileVectors; v++) {
        Floats x = __builtin_convertvector(Words(words[v]) - kBias, Floats) * scale;
        if (kAffine) x = x + offset;
        To::template store<kStream>(target + (first + v * kLanes) * To::kBytes, FloatVector(x));
      }
      hash.advance(codes + first / 8 * kBits + 4 * kBits);
    }
    if (n % kCodeTile != 0) break;
  }
  if (kStream) finishStores();
  hash.finish();
  if (first < elements) {
    const size_t b = shared ? 0 : first / block;
    scalar::kLinear.decode[kBits - 2][floatIndex(To::kDType)](
        scales + 4 * b, offsets + 4 * b, codes + first / 8 * kBits, elements - first, block, parameters,
        target + first * To::kBytes, payload);
  }
}

template <uint32_t kBits, class To>
void decodeLinear(const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes, size_t elements, size_t block,
                  const LinearParameters& parameters, uint8_t* target, PayloadHash& payload) {
  const auto decode = [&](auto kernel) {
    kernel(scales, offsets, codes, elements, block, parameters, target, payload);
  };
  const bool stream = streams(target, elements * To::kBytes);
  if (parameters.affine) {
    if (stream) decode(decodeLinearAll<kBits, true, To, true>);
    else decode(decodeLinearAll<kBits, true, To, false>);
  } else {
    if (stream) decode(decodeLinearAll<kBits, false, To, true>);
    else decode(decodeLinearAll<kBits, false, To, false>);
  }
}

constexpr LinearKernels kVectorLinear = {TENSORWIRE_EACH_BITS(encodeLinear), TENSORWIRE_EACH_BITS(decodeLinear)};

}  // namespace
}  // namespace tensorwire
