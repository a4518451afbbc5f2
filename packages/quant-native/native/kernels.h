// What an instruction set provides: one table of function pointers. Buffers may begin at any address and lengths are
// the caller's duty, so that every kernel is a plain loop.
#pragma once

#include "formats.h"

namespace tensorwire {

struct Counts {
  uint64_t nonFinite = 0;
  uint64_t clamped = 0;
};

// Rounds to a 16-bit float; counts what the format cannot carry.
using NarrowKernel = Counts (*)(const uint8_t* source, size_t elements, uint8_t* target);
using ConvertKernel = void (*)(const uint8_t* source, size_t elements, uint8_t* target);
using EncodeBlocksKernel = Counts (*)(const uint8_t* source, size_t elements, size_t block, uint8_t* scales,
                                      uint8_t* codes);
using DecodeBlocksKernel = void (*)(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block,
                                    uint8_t* target);

// Indexed by dtype - 1, block codecs by codec - blockwise8.
struct Kernels {
  const char* isa;
  NarrowKernel toFloat16[kFloats];
  NarrowKernel toBfloat16[kFloats];
  ConvertKernel convert[kFloats][kFloats];  // [from][to]; none from a dtype to itself
  EncodeBlocksKernel encodeBlocks[3][kFloats];
  DecodeBlocksKernel decodeBlocks[3][kFloats];
};

constexpr uint32_t floatIndex(DType dtype) { return static_cast<uint32_t>(dtype) - 1; }
constexpr uint32_t blockCodecIndex(Codec codec) {
  return static_cast<uint32_t>(codec) - static_cast<uint32_t>(Codec::kBlockwise8);
}

extern const Kernels kScalarKernels;
#ifdef TENSORWIRE_AVX2
extern const Kernels kAvx2Kernels;
#endif

}  // namespace tensorwire
