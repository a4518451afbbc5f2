// What an instruction set provides: one table of function pointers. Buffers may begin at any address and lengths are
// the caller's duty, so that every kernel is a plain loop.
//
// Functions in headers that vector files include have internal linkage: one that was compiled for a processor and
// shared with the scalar file could be the one that the linker keeps for both.
#pragma once

#include "formats.h"
#include "payload_hash.h"

// What a loop calls once a tile: its constants stay in registers.
#define TENSORWIRE_INLINE inline __attribute__((always_inline))

namespace tensorwire {

struct Counts {
  uint64_t nonFinite = 0;
  uint64_t clamped = 0;
  // Elements that vector kernels left to the scalar ones for what they are, and not for where they are.
  uint64_t slow = 0;
};

// `hash` is that of the payload from its beginning, and may be as far behind as it likes: whoever calls takes in the
// rest. A kernel that passes over the payload in order takes it in on its way.

// Rounds to a 16-bit float; counts what the format cannot carry. The payload is the target.
using NarrowKernel = Counts (*)(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& hash);
// The payload is the source.
using ConvertKernel = void (*)(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& hash);
// Without a hash: scales come first in the payload and are known last.
using EncodeBlocksKernel = Counts (*)(const uint8_t* source, size_t elements, size_t block, uint8_t* scales,
                                      uint8_t* codes);
using DecodeBlocksKernel = void (*)(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block,
                                    uint8_t* target, PayloadHash& hash);

// What linearN does beside its bits. Blocks begin with a byte of codes: see docs/codecs.md.
struct LinearParameters {
  bool affine = false;
  bool stochastic = false;
  float scale = 0;   // known to all, in the place of one a block; 0 where there is none
  uint64_t seed = 0;    // stochastic: Philox' key
  uint64_t tensor = 0;  // stochastic: xxh64 of the tensor's name
  uint64_t first = 0;   // stochastic: index of the first element in its tensor
};

// Scales (none with a known scale), offsets where affine, codes. `block` has no meaning with a known scale.
using EncodeLinearKernel = Counts (*)(const uint8_t* source, size_t elements, size_t block,
                                      const LinearParameters& parameters, uint8_t* scales, uint8_t* offsets,
                                      uint8_t* codes);
using DecodeLinearKernel = void (*)(const uint8_t* scales, const uint8_t* offsets, const uint8_t* codes,
                                    size_t elements, size_t block, const LinearParameters& parameters,
                                    uint8_t* target, PayloadHash& hash);
struct LinearKernels {
  // [bits - 2]
  EncodeLinearKernel encode[7][kFloats];
  DecodeLinearKernel decode[7][kFloats];
};

// adaquant's range: the least and the largest element, with +0 in the place of those that are not finite as f32.
struct Range {
  double low = 0;  // never -0
  double high = 0;
  uint64_t nonFinite = 0;
};
// adaquant's levels: code = round((x - low) / norm × largest).
struct Levels {
  double low;
  double norm;
  double largest;  // 2^k - 1
};
using RangeKernel = Range (*)(const uint8_t* source, size_t elements);
using EncodeLevelsKernel = void (*)(const uint8_t* source, size_t elements, const Levels& levels, uint8_t* codes);
// `exact`: the values stay binary64, which only makes a difference where they are stored as F64.
using DecodeLevelsKernel = void (*)(const uint8_t* codes, size_t elements, const Levels& levels, bool exact,
                                    uint8_t* target);
struct AdaquantKernels {
  RangeKernel range[kFloats];  // at least one element
  // [0, 1, 2]: codes of 1, 2, 4 bytes
  EncodeLevelsKernel encode[3][kFloats];
  DecodeLevelsKernel decode[3][kFloats];
};

// lossless: byte k of every element to plane k, and back. Planes follow one another in what is split; what is joined
// may lie apart.
using SplitKernel = void (*)(const uint8_t* source, size_t elements, uint8_t* planes, PayloadHash& hash);
// With `lanes` it takes the planes into xxh64, one behind the other: they are whole stripes then.
using JoinKernel = void (*)(const uint8_t* const* planes, size_t elements, uint8_t* target, uint64_t* lanes);
struct PlaneKernels {
  // [0 … 2]: elements of 2, 4, 8 bytes
  SplitKernel split[3];
  JoinKernel join[3];
};

// Whether no value is infinite or NaN.
using FiniteKernel = bool (*)(const uint8_t* values, size_t count);
// sum += weight × value, each rounded by itself, where the weight is rounded to the sums' type first; true where all
// values are finite. Otherwise the sums mean nothing.
using AddKernel = bool (*)(const uint8_t* values, size_t count, double weight, uint8_t* sums);
struct SumKernels {
  FiniteKernel finite[kFloats];
  AddKernel singles;         // F32 to sums of F32
  AddKernel singlesWidened;  // F32 to sums of F64
  AddKernel doubles;         // F64 to sums of F64
};

// Indexed by dtype - 1, block codecs by codec - blockwise8.
struct Kernels {
  const char* isa;
  NarrowKernel toFloat16[kFloats];
  NarrowKernel toBfloat16[kFloats];
  ConvertKernel convert[kFloats][kFloats];  // [from][to]; none from a dtype to itself
  EncodeBlocksKernel encodeBlocks[3][kFloats];
  DecodeBlocksKernel decodeBlocks[3][kFloats];
  LinearKernels linear;
  AdaquantKernels adaquant;
  PlaneKernels planes;
  SumKernels sums;
};

constexpr uint32_t floatIndex(DType dtype) { return static_cast<uint32_t>(dtype) - 1; }
constexpr uint32_t blockCodecIndex(Codec codec) {
  return static_cast<uint32_t>(codec) - static_cast<uint32_t>(Codec::kBlockwise8);
}
constexpr uint32_t planesIndex(size_t width) { return width == 2 ? 0 : width == 4 ? 1 : 2; }

extern const Kernels kScalarKernels;
#ifdef TENSORWIRE_AVX2
extern const Kernels kAvx2Kernels;
#endif
#ifdef TENSORWIRE_NEON
extern const Kernels kNeonKernels;
#endif
#ifdef TENSORWIRE_AVX512
extern const Kernels kAvx512Kernels;
#endif

}  // namespace tensorwire
