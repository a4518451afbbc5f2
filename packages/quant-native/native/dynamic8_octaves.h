// The dynamic map's decision points for processors that permute bytes: the table of dynamic8_steps.h, made small enough
// for eight registers by giving each octave of magnitudes (those of one exponent) only as many bins as it needs for at
// most one threshold a bin. 218 in all.
//
// With e the exponent of a magnitude a, its word is
//
//   word(a) = (bits(a) << shift[e]) + offset[e]
//
// whose top byte is the bin, and whose other 24 bits say where in its bin a lies. As there:
//
//   rank(a) = (word + step[bin]) >> 24,  step = (rank below the threshold - bin) << 24 + (2^24 - 1 - threshold's low bits)
#pragma once

#include "codebook_tables.h"

#include <cstdint>

namespace tensorwire {

constexpr uint32_t kMagnitudeZeroCode = 127;
// Thresholds of the positive half: the first is between codes 127 (zero) and 128.
constexpr uint32_t kMagnitudeThresholds = 255 - kMagnitudeZeroCode;
constexpr const uint32_t* kMagnitudeThresholdBits = kDynamic8ThresholdBits + kMagnitudeZeroCode;

// Magnitudes below the first octave are clamped to its beginning. Those of 1 and a little more are in the last.
constexpr uint32_t kFirstOctave = (kMagnitudeThresholdBits[0] >> 23) - 1;
constexpr uint32_t kLastOctave = 127;

struct Dynamic8Octaves {
  // By the exponent's low five bits, which no two octaves share.
  alignas(64) uint32_t shift[32] = {};
  alignas(64) uint32_t offset[32] = {};
  // Byte k of each bin's step.
  alignas(64) uint8_t step[4][256] = {};
  uint32_t bins = 0;

  constexpr Dynamic8Octaves() {
    uint32_t rank = 0;
    for (uint32_t octave = kFirstOctave; octave <= kLastOctave; octave++) {
      const uint32_t fractionBits = fractionBitsOf(octave);
      const uint32_t by = fractionBits + 1;
      shift[octave % 32] = by;
      offset[octave % 32] = (bins << 24) - (octave << 23 << by);
      for (uint32_t i = 0; i < 1u << fractionBits; i++, bins++) {
        uint32_t word = (rank - bins) << 24;
        if (rank < kMagnitudeThresholds) {
          const uint32_t bits = kMagnitudeThresholdBits[rank];
          const uint32_t low = bits << by & 0xffffff;
          if (bits >> 23 == octave && (bits & 0x7fffff) >> (23 - fractionBits) == i) {
            word += 0xffffff - low;
            rank++;
          }
        }
        for (uint32_t k = 0; k < 4 && bins < 256; k++) step[k][bins] = static_cast<uint8_t>(word >> (8 * k));
      }
    }
  }

  // The fewest bits of the fraction that tell the octave's thresholds apart.
  static constexpr uint32_t fractionBitsOf(uint32_t octave) {
    uint32_t bits = 0;
    for (uint32_t i = 1; i < kMagnitudeThresholds; i++) {
      const uint32_t low = kMagnitudeThresholdBits[i - 1], high = kMagnitudeThresholdBits[i];
      if (low >> 23 != octave || high >> 23 != octave) continue;
      while (low >> (23 - bits) == high >> (23 - bits)) bits++;
    }
    return bits;
  }
};

constexpr Dynamic8Octaves kDynamic8Octaves{};
static_assert(kDynamic8Octaves.bins <= 256, "a bin is a byte");
static_assert(kLastOctave - kFirstOctave < 32, "an octave is five bits");

// Bytes of the positive half's values, by code - 127: what decoding looks up. The 129th, 1, has its own instruction.
struct Dynamic8Planes {
  alignas(64) uint8_t bytes[4][128] = {};

  constexpr Dynamic8Planes() {
    for (uint32_t i = 0; i < 128; i++) {
      for (uint32_t k = 0; k < 4; k++) {
        bytes[k][i] = static_cast<uint8_t>(kDynamic8Bits[kMagnitudeZeroCode + i] >> (8 * k));
      }
    }
  }
};

constexpr Dynamic8Planes kDynamic8Planes{};

}  // namespace tensorwire
