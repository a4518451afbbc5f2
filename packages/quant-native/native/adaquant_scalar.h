// adaquant one element at a time, in binary64. Internal linkage: vector files include this too.
#pragma once

#include "elements_scalar.h"
#include "kernel_table.h"

namespace tensorwire {
namespace scalar {
namespace {

// An element as adaquant sees it: +0 in the place of what is not finite as f32.
template <class From>
double finiteAt(const uint8_t* source, size_t i) {
  return isNonFinite(From::load(source, i)) ? 0.0 : From::loadWide(source, i);
}

template <class From>
Range rangeOf(const uint8_t* source, size_t elements) {
  Range range;
  range.low = range.high = finiteAt<From>(source, 0);
  for (size_t i = 0; i < elements; i++) {
    const double value = finiteAt<From>(source, i);
    if (value < range.low) range.low = value;
    if (value > range.high) range.high = value;
    range.nonFinite += isNonFinite(From::load(source, i));
  }
  range.low += 0.0;
  return range;
}

template <class Code, class From>
void encodeLevels(const uint8_t* source, size_t elements, const Levels& levels, uint8_t* codes) {
  // To the nearest whole number, ties to even, of what is below 2^51.
  constexpr double kNoFraction = 0x1.8p52;
  for (size_t i = 0; i < elements; i++) {
    const double level = (finiteAt<From>(source, i) - levels.low) / levels.norm * levels.largest;
    const double whole = (level + kNoFraction) - kNoFraction;
    storeAt(codes, i, static_cast<Code>(whole > levels.largest ? levels.largest : whole));
  }
}

template <class Code, class To>
void decodeLevels(const uint8_t* codes, size_t elements, const Levels& levels, bool exact, uint8_t* target) {
  for (size_t i = 0; i < elements; i++) {
    const double value = static_cast<double>(loadAt<Code>(codes, i)) * levels.norm / levels.largest + levels.low;
    if (exact) storeAt(target, i, value);
    else To::store(target, i, static_cast<float>(value));
  }
}

constexpr AdaquantKernels kAdaquant = {TENSORWIRE_EACH_FLOAT(rangeOf), TENSORWIRE_EACH_WIDTH(encodeLevels),
                                       TENSORWIRE_EACH_WIDTH(decodeLevels)};

}  // namespace
}  // namespace scalar
}  // namespace tensorwire
