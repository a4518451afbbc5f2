// The 4-bit formats' decision points for processors that permute 16 and 32 floats: [-1, 1] is cut into bins so narrow
// that each holds at most one threshold, so that a code takes two look-ups and one comparison.
//
// Which bin an x falls into is rounded, but always in the same way and in order: an x in a higher bin than a threshold
// is greater than it. So all that must be known exactly is each threshold's own bin.
#pragma once

#include "codebook_tables.h"

#include <cstdint>
#include <limits>

namespace tensorwire {

// Bins a unit. Below 15.5 and 16, so that x = 1 has a bin of its own.
constexpr double kNf4Scale = 15.25, kFp4Scale = 15.5;

struct Nf4Bins {
  // By the bin's number modulo 32: the nearest integer to x * kNf4Scale, -15 … 15.
  alignas(64) float threshold[32] = {};
  alignas(64) uint32_t rank[32] = {};  // at or below the threshold
  bool exact = true;

  constexpr Nf4Bins() {
    uint32_t passed = 0;
    for (int bin = -15; bin <= 15; bin++) {
      const uint32_t at = static_cast<uint32_t>(bin) % 32;
      threshold[at] = std::numeric_limits<float>::infinity();
      rank[at] = passed;
      while (passed < 15 && kNf4Thresholds[passed] * kNf4Scale < bin + 0.5) {
        const double from = kNf4Thresholds[passed] * kNf4Scale - (bin - 0.5);
        // Far enough from the bin's ends that rounding cannot matter, and alone in it.
        if (from < 1e-5 || from > 1 - 1e-5 || passed != rank[at]) exact = false;
        threshold[at] = kNf4Thresholds[passed++];
      }
    }
  }
};

struct Fp4Bins {
  // By the whole part of |x| * kFp4Scale.
  alignas(64) float threshold[16] = {};
  alignas(64) uint32_t below[16] = {}, above[16] = {};  // the code of a magnitude on either side of the threshold
  bool exact = true;

  constexpr Fp4Bins() {
    uint32_t passed = 0;
    for (uint32_t bin = 0; bin < 16; bin++) {
      threshold[bin] = std::numeric_limits<float>::infinity();
      below[bin] = kFp4Codes[passed];
      const uint32_t before = passed;
      while (passed < 7 && kFp4Thresholds[passed] * kFp4Scale < bin + 1.0) {
        const double from = kFp4Thresholds[passed] * kFp4Scale - bin;
        if (from < 1e-5 || from > 1 - 1e-5 || passed != before) exact = false;
        threshold[bin] = kFp4Thresholds[passed++];
      }
      above[bin] = kFp4Codes[passed];
    }
  }
};

constexpr Nf4Bins kNf4Bins{};
constexpr Fp4Bins kFp4Bins{};
static_assert(kNf4Bins.exact && kFp4Bins.exact, "a bin holds two thresholds, or one at its edge: choose another scale");

}  // namespace tensorwire
