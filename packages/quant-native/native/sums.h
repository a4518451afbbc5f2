// Values times a weight, added to sums, and whether values are finite: plain loops that the compiler makes vectors of, for
// whichever instruction set includes them. A product and a sum are two roundings: see -ffp-contract in
// scripts/native-sources.mjs. Internal linkage throughout: see kernels.h.
#pragma once

#include "elements_scalar.h"
#include "kernels.h"

namespace tensorwire {
namespace {

// All ones in `kExponent` carry into the sign once `kLowest` is added, which nothing else does: so the signs of all
// elements, or'ed together, say whether one is not finite.
struct HalfBits {
  using Word = uint16_t;
  static constexpr Word kExponent = 0x7c00, kLowest = 0x0400;
};
struct BrainBits {
  using Word = uint16_t;
  static constexpr Word kExponent = 0x7f80, kLowest = 0x0080;
};
struct SingleBits {
  using Word = uint32_t;
  using Value = float;
  static constexpr Word kExponent = 0x7f800000, kLowest = 0x00800000;
};
struct DoubleBits {
  using Word = uint64_t;
  using Value = double;
  static constexpr Word kExponent = 0x7ff0000000000000, kLowest = 0x0010000000000000;
};

template <class Bits>
typename Bits::Word carriedOf(const uint8_t* values, size_t i) {
  using Word = typename Bits::Word;
  return static_cast<Word>((scalar::loadAt<Word>(values, i) & Bits::kExponent) + Bits::kLowest);
}

template <class Word>
bool hasNoSign(Word carried) {
  return carried >> (8 * sizeof carried - 1) == 0;
}

template <class Bits>
bool allFinite(const uint8_t* values, size_t count) {
  using Word = typename Bits::Word;
  Word carried = 0;
  for (size_t i = 0; i < count; i++) carried = static_cast<Word>(carried | carriedOf<Bits>(values, i));
  return hasNoSign(carried);
}

template <class Bits, class Sum>
bool addWeighted(const uint8_t* __restrict values, size_t count, double weight, uint8_t* __restrict sums) {
  const Sum factor = static_cast<Sum>(weight);
  typename Bits::Word carried = 0;
  for (size_t i = 0; i < count; i++) {
    const Sum product = factor * static_cast<Sum>(scalar::loadAt<typename Bits::Value>(values, i));
    scalar::storeAt(sums, i, scalar::loadAt<Sum>(sums, i) + product);
    carried |= carriedOf<Bits>(values, i);
  }
  return hasNoSign(carried);
}

constexpr SumKernels kSums = {
    {allFinite<HalfBits>, allFinite<BrainBits>, allFinite<SingleBits>, allFinite<DoubleBits>},
    addWeighted<SingleBits, float>,
    addWeighted<SingleBits, double>,
    addWeighted<DoubleBits, double>,
};

}  // namespace
}  // namespace tensorwire
