// The codecs on 8 floats at a time: AVX2 and F16C. Blocks with NaN, infinity or a reciprocal that overflows, which are
// rare, go to the scalar kernels; with them gone no product is a NaN, and the vector code need not look.

#include "adaquant_scalar.h"
#include "block_formats_avx2.h"
#include "kernel_table.h"
#include "lanes_avx2.h"
#include "linear_scalar.h"
#include "planes_avx2.h"

#include <cstring>

namespace tensorwire {
namespace {

// What is left of a block that is no multiple of 32 elements goes through a tile of zeros on the stack.
constexpr size_t kTileBytes = kTile * 8;

template <class From, class To>
void convert(const uint8_t* source, size_t elements, uint8_t* target) {
  size_t i = 0;
  for (; i + 8 <= elements; i += 8) To::store(target + i * To::kBytes, From::load(source + i * From::kBytes));
  kScalarKernels.convert[floatIndex(From::kDType)][floatIndex(To::kDType)](source + i * From::kBytes, elements - i,
                                                                          target + i * To::kBytes);
}

void add(Counts& counts, const Counts& more) {
  counts.nonFinite += more.nonFinite;
  counts.clamped += more.clamped;
}

template <class From>
Counts toFloat16(const uint8_t* source, size_t elements, uint8_t* target) {
  Counts counts;
  const NarrowKernel scalar = kScalarKernels.toFloat16[floatIndex(From::kDType)];
  size_t i = 0;
  for (; i + 8 <= elements; i += 8) {
    const uint8_t* in = source + i * From::kBytes;
    const __m128i halves = _mm256_cvtps_ph(From::load(in), _MM_FROUND_TO_NEAREST_INT);
    const __m128i magnitudes = _mm_and_si128(halves, _mm_set1_epi16(0x7fff));
    if (_mm_movemask_epi8(_mm_cmpgt_epi16(magnitudes, _mm_set1_epi16(0x7bff))) == 0) store128(target + i * 2, halves);
    else add(counts, scalar(in, 8, target + i * 2));
  }
  add(counts, scalar(source + i * From::kBytes, elements - i, target + i * 2));
  return counts;
}

template <class From>
Counts toBfloat16(const uint8_t* source, size_t elements, uint8_t* target) {
  Counts counts;
  const NarrowKernel scalar = kScalarKernels.toBfloat16[floatIndex(From::kDType)];
  // The largest magnitude that does not round to infinity.
  const __m256i largest = _mm256_set1_epi32(0x7f7f7fff);
  size_t i = 0;
  for (; i + 8 <= elements; i += 8) {
    const uint8_t* in = source + i * From::kBytes;
    const __m256 values = From::load(in);
    if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(magnitudeBits(values), largest)) == 0) {
      store128(target + i * 2, lowHalves(roundToBrain(_mm256_castps_si256(values))));
    } else {
      add(counts, scalar(in, 8, target + i * 2));
    }
  }
  add(counts, scalar(source + i * From::kBytes, elements - i, target + i * 2));
  return counts;
}

template <class From>
uint32_t largestMagnitudeOfAll(const uint8_t* at, size_t elements) {
  const size_t whole = elements - elements % kTile;
  uint32_t largest = largestMagnitude<From>(at, whole);
  if (whole < elements) {
    alignas(32) uint8_t tile[kTileBytes] = {};
    memcpy(tile, at + whole * From::kBytes, (elements - whole) * From::kBytes);
    const uint32_t rest = largestMagnitude<From>(tile, kTile);
    if (rest > largest) largest = rest;
  }
  return largest;
}

template <class Format, class From>
Counts encodeBlocks(const uint8_t* source, size_t elements, size_t block, uint8_t* scales, uint8_t* codes) {
  Counts counts;
  for (size_t first = 0; first < elements; first += block, scales += 4) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = source + first * From::kBytes;
    uint8_t* out = codes + Format::codeBytes(first);

    const uint32_t absmaxBits = largestMagnitudeOfAll<From>(in, n);
    memcpy(scales, &absmaxBits, 4);
    // A zero block: 0 times infinity is NaN, whose code is 0 in every format.
    if (absmaxBits == 0) {
      memset(out, 0, Format::codeBytes(n));
      continue;
    }
    float absmax;
    memcpy(&absmax, &absmaxBits, 4);
    const float reciprocal = 1.0f / absmax;
    uint32_t reciprocalBits;
    memcpy(&reciprocalBits, &reciprocal, 4);
    if (absmaxBits >= 0x7f800000 || reciprocalBits >= 0x7f800000) {
      add(counts, kScalarKernels.encodeBlocks[blockCodecIndex(Format::kCodec)][floatIndex(From::kDType)](
                      in, n, block, scales, out));
      continue;
    }

    const __m256 inverse = _mm256_set1_ps(reciprocal);
    size_t i = 0;
    for (; i + kTile <= n; i += kTile) {
      Format::template encode<From>(in + i * From::kBytes, inverse, out + Format::codeBytes(i));
    }
    if (i < n) {
      alignas(32) uint8_t tile[kTileBytes] = {}, tileCodes[kTile];
      memcpy(tile, in + i * From::kBytes, (n - i) * From::kBytes);
      Format::template encode<From>(tile, inverse, tileCodes);
      memcpy(out + Format::codeBytes(i), tileCodes, Format::codeBytes(n - i));
    }
  }
  return counts;
}

template <class Format, class To>
void decodeBlocks(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block, uint8_t* target) {
  for (size_t first = 0; first < elements; first += block, scales += 4) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = codes + Format::codeBytes(first);
    uint8_t* out = target + first * To::kBytes;
    float absmax;
    memcpy(&absmax, scales, 4);
    const typename Format::Decoder decoder(absmax);
    size_t i = 0;
    for (; i + kTile <= n; i += kTile) {
      decoder.template decode<To>(in + Format::codeBytes(i), out + i * To::kBytes);
    }
    if (i < n) {
      alignas(32) uint8_t tileCodes[kTile] = {}, tile[kTileBytes];
      memcpy(tileCodes, in + Format::codeBytes(i), Format::codeBytes(n - i));
      decoder.template decode<To>(tileCodes, tile);
      memcpy(out + i * To::kBytes, tile, (n - i) * To::kBytes);
    }
  }
}

}  // namespace

const Kernels kAvx2Kernels = 
    TENSORWIRE_KERNEL_TABLE("avx2", scalar::kLinear, scalar::kAdaquant, kAvx2Planes);

}  // namespace tensorwire
