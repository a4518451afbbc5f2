// linear2 … linear8: elements to codes of a byte each and back, and these to as many bits as they have. Over the lanes_
// and code_bits_ headers that were included before; arithmetic is written with the compilers' vector types. Internal
// linkage throughout: see kernels.h.
#pragma once

#include "vector_kernels.h"

namespace tensorwire {
namespace {

constexpr size_t kCodeTile = 32;
// What packing and unpacking a tile touch, whatever they need.
constexpr size_t kCodeRoom = 32;
constexpr size_t kTileVectors = kCodeTile / kLanes;

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Words = int32_t __attribute__((vector_size(4 * kLanes)));
using Pairs = uint64_t __attribute__((vector_size(4 * kLanes)));

// How a block's elements become whole numbers: t = (x - offset) × inverse. Every code is zero's where inverse is 0.
struct BlockScale {
  float scale = 0, offset = 0, inverse = 0;
};

inline Floats spread(float x) { return x - Floats{}; }

// A tile's numbers from 0 to 2^24 - 1, as f32. `first` is the index of its first element, a multiple of 4.
__attribute__((noinline)) void drawTile(const LinearParameters& parameters, uint64_t first, Floats draws[kTileVectors]) {
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

// The whole numbers that codes stand for, and what is added to one to make its code.
struct LinearLevels {
  int32_t least, largest, bias;
  LinearLevels(uint32_t bits, bool affine)
      : least(affine ? 0 : 1 - (1 << (bits - 1))),
        largest(affine ? (1 << bits) - 1 : (1 << (bits - 1)) - 1),
        bias(-least) {}
};

// The codes of whole tiles; returns how many elements had to be limited, where that is asked.
template <class From, bool kStochastic, bool kCounting>
uint64_t quantize(const uint8_t* in, size_t first, size_t n, size_t ahead, const BlockScale& block,
                  const LinearLevels& levels, const LinearParameters& parameters, uint8_t* codes) {
  uint64_t limited = 0;
  // What is rounded from two levels beyond the last is limited all the same.
  const Floats above = spread(static_cast<float>(levels.largest + 2));
  const Floats below = spread(static_cast<float>(levels.least - 2));
  for (size_t i = 0; i < n; i += kCodeTile, in += kCodeTile * From::kBytes) {
    prefetch(in + ahead, kCodeTile * From::kBytes);
    Floats draws[kTileVectors];
    WordVector words[kTileVectors];
    if (kStochastic) drawTile(parameters, parameters.first + first + i, draws);
    for (size_t v = 0; v < kTileVectors; v++) {
      const Floats x = From::load(in + v * kLanes * From::kBytes);
      const Floats t = maximum(minimum((x - block.offset) * block.inverse, above), below);
      const Words whole = kStochastic ? drawn(t, draws[v]) : nearest(t);
      if (kCounting) limited += countOf(WordVector((whole > levels.largest) | (whole < levels.least)));
      words[v] = WordVector(Words(limitWords(WordVector(whole), levels.least, levels.largest)) + levels.bias);
    }
    storeBytes(codes + i, words);
  }
  return limited;
}

template <class From, bool kCounting>
uint64_t quantize(const uint8_t* in, size_t first, size_t n, size_t ahead, const BlockScale& block,
                  const LinearLevels& levels, const LinearParameters& parameters, uint8_t* codes) {
  return parameters.stochastic
             ? quantize<From, true, kCounting>(in, first, n, ahead, block, levels, parameters, codes)
             : quantize<From, false, kCounting>(in, first, n, ahead, block, levels, parameters, codes);
}

// Whole tiles. `end` is where the codes end: what packing writes beyond a tile, the next one overwrites, and the last
// ones take a way round.
template <uint32_t kBits>
void packCodes(const uint8_t* codes, size_t n, uint8_t* out, const uint8_t* end) {
  for (size_t i = 0; i < n; i += kCodeTile, out += 4 * kBits) {
    uint8_t room[kCodeRoom];
    const bool fits = end - out >= static_cast<ptrdiff_t>(kCodeRoom);
    packTile<kBits>(codes + i, fits ? out : room);
    if (!fits) memcpy(out, room, 4 * kBits);
  }
}

template <uint32_t kBits>
void unpackCodes(const uint8_t* in, size_t n, uint8_t* codes, const uint8_t* end) {
  for (size_t i = 0; i < n; i += kCodeTile, in += 4 * kBits) {
    uint8_t room[kCodeRoom] = {};
    const bool fits = end - in >= static_cast<ptrdiff_t>(kCodeRoom);
    if (!fits) memcpy(room, in, 4 * kBits);
    unpackTile<kBits>(fits ? in : room, codes + i);
  }
}

using PackCodes = void (*)(const uint8_t* codes, size_t n, uint8_t* out, const uint8_t* end);
using UnpackCodes = void (*)(const uint8_t* in, size_t n, uint8_t* codes, const uint8_t* end);
// [bits - 2]; codes of 8 bits are bytes.
constexpr PackCodes kPackCodes[6] = {packCodes<2>, packCodes<3>, packCodes<4>, packCodes<5>, packCodes<6>, packCodes<7>};
constexpr UnpackCodes kUnpackCodes[6] = {unpackCodes<2>, unpackCodes<3>, unpackCodes<4>,
                                         unpackCodes<5>, unpackCodes<6>, unpackCodes<7>};

// Whole tiles of codes, a byte each.
template <class To, bool kStream>
void dequantize(const uint8_t* codes, size_t n, int32_t bias, float scale, const float* offset, uint8_t* out) {
  for (size_t i = 0; i < n; i += kLanes, out += kLanes * To::kBytes) {
    Floats x = __builtin_convertvector(Words(loadBytes(codes + i)) - bias, Floats) * scale;
    if (offset != nullptr) x = x + *offset;
    To::template store<kStream>(out, FloatVector(x));
  }
}

}  // namespace
}  // namespace tensorwire
