// The dynamic map's decision points as one word a key, so that quantizing takes a look-up, an addition and a shift.
//
// The map is symmetric, its tie rule included: the code of -a is 254 less the code of a (at most 254, as there is no -1).
// So only magnitudes are looked up. A key is the top bits of a magnitude up to 6 bits of its fraction, and holds at
// most one threshold. With `low` the 17 bits below the key, the step is passed where low > threshold's low bits:
//
//   rank(a) = (low + step) >> 17,  step = (rank below the threshold << 17) + (2^17 - 1 - threshold's low bits)
//
// where the carry out of `low` is the comparison.
#pragma once

#include "codebook_tables.h"

#include <cstdint>

namespace tensorwire {

constexpr uint32_t kStepShift = 17;
constexpr uint32_t kStepLowMask = (1u << kStepShift) - 1;

// Thresholds of the positive half: the first is between codes 127 (zero) and 128.
constexpr uint32_t kZeroCode = 127;
constexpr uint32_t kPositiveThresholds = 255 - kZeroCode;

// Smaller magnitudes are zero, larger ones are 1: both ends are clamped to these before the look-up.
constexpr uint32_t kFirstKey = kDynamic8ThresholdBits[kZeroCode] >> kStepShift;
constexpr uint32_t kSmallestMagnitude = kFirstKey << kStepShift;
constexpr uint32_t kLargestMagnitude = 0x3f800000;
constexpr uint32_t kStepCount = (kLargestMagnitude >> kStepShift) - kFirstKey + 1;

struct Dynamic8Steps {
  uint32_t words[kStepCount] = {};
  bool exact = true;

  constexpr Dynamic8Steps() {
    uint32_t rank = 0;
    for (uint32_t i = 0; i < kStepCount; i++) {
      words[i] = rank << kStepShift;
      uint32_t inside = 0;
      while (rank < kPositiveThresholds && kDynamic8ThresholdBits[kZeroCode + rank] >> kStepShift == kFirstKey + i) {
        words[i] += kStepLowMask - (kDynamic8ThresholdBits[kZeroCode + rank] & kStepLowMask);
        rank++;
        inside++;
      }
      if (inside > 1) exact = false;
    }
  }
};

constexpr Dynamic8Steps kDynamic8Steps{};
static_assert(kDynamic8Steps.exact, "two decision points share a key: keys need more bits of the fraction");

}  // namespace tensorwire
