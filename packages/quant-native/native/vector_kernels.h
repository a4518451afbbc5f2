// The kernels' loops, the same for every instruction set: over the float types and block formats of the lanes_ and
// block_formats_ headers that were included before.
//
// Blocks with NaN, infinity or a reciprocal that overflows, which are rare, go to the scalar kernels; with them gone no
// product is a NaN, and the vector code need not look.
#pragma once

#include "kernels.h"

#include <cstring>

namespace tensorwire {
namespace {

// Elements between two portions of the hash: few enough that the processor sees both kinds of work at once.
constexpr size_t kStep = 64;

// Targets from here on are written past the caches: a processor reads the lines that it writes otherwise, and memory is
// what the kernels wait for. That a chunk's next reader finds nothing of it in the caches costs less than that: between
// two processes a transfer of 1 GiB took as long either way, and its receiver a little less of the processor.
constexpr size_t kStreamBytes = 1 << 19;

inline bool streams(const uint8_t* target, size_t bytes) {
  return kHasStreams && bytes >= kStreamBytes && reinterpret_cast<uintptr_t>(target) % 64 == 0;
}

// The processor's own prefetching ends with a page of 4 KiB: with two of them ahead of what is read next, lines are there
// when their turn comes. Nothing comes of addresses beyond a buffer.
constexpr size_t kAhead = 8192;

inline void prefetch(const uint8_t* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}

// A store past the caches waits for its page's translation, and others wait behind it: each page is touched while the one
// before it is written. `bytes` is what is written at once, from `out`: that begins a page once a page.
constexpr size_t kPage = 4096;

template <bool kStream>
inline void prefetchPage(const uint8_t* out, size_t bytes) {
  if (kStream && reinterpret_cast<uintptr_t>(out) % kPage < bytes) __builtin_prefetch(out + kPage);
}

inline void add(Counts& counts, const Counts& more) {
  counts.nonFinite += more.nonFinite;
  counts.clamped += more.clamped;
  counts.slow += more.slow;
}

template <class From, class To, bool kStream>
void convertAll(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& payload) {
  RunningHash hash(payload);
  size_t i = 0;
  for (; i + kStep <= elements; i += kStep) {
    prefetchPage<kStream>(target + i * To::kBytes, kStep * To::kBytes);
    for (size_t j = i; j < i + kStep; j += kLanes) {
      To::template store<kStream>(target + j * To::kBytes, From::load(source + j * From::kBytes));
    }
    hash.advance(source + (i + kStep) * From::kBytes);
  }
  if (kStream) finishStores();
  hash.finish();
  kScalarKernels.convert[floatIndex(From::kDType)][floatIndex(To::kDType)](
      source + i * From::kBytes, elements - i, target + i * To::kBytes, payload);
}

template <class From, class To>
void convert(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& payload) {
  if (streams(target, elements * To::kBytes)) convertAll<From, To, true>(source, elements, target, payload);
  else convertAll<From, To, false>(source, elements, target, payload);
}

// `Tile` writes kStep elements to `tile`, and to `out` where that is another place. It returns false where one of them
// cannot be carried: then the scalar kernel counts them.
template <class Tile, class From, bool kStream>
Counts narrowAll(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& payload, NarrowKernel scalar) {
  constexpr size_t kBytes = kStep * 2;
  Counts counts;
  RunningHash hash(payload);
  // What is written past the caches is hashed from here; behind by a step, so that no word is read while its store is
  // still on its way.
  alignas(64) uint8_t tiles[2][kBytes];
  size_t i = 0;
  for (; i + kStep <= elements; i += kStep) {
    const uint8_t* in = source + i * From::kBytes;
    uint8_t* out = target + i * 2;
    prefetch(in + kAhead, kStep * From::kBytes);
    prefetchPage<kStream>(out, kBytes);
    uint8_t* tile = kStream ? tiles[i / kStep % 2] : out;
    if (!Tile::template narrow<From, kStream>(in, tile, out)) {
      add(counts, scalar(in, kStep, tile, payload));
      counts.slow += kStep;
      if (kStream) memcpy(out, tile, kBytes);
    }
    if (kStream) {
      if (i > 0) hash.advance(tiles[(i / kStep + 1) % 2], kBytes / xxh64::kStripe);
    } else {
      hash.advance(out);
    }
  }
  if (kStream) {
    finishStores();
    hash.advance(target + i * 2);
  }
  hash.finish();
  add(counts, scalar(source + i * From::kBytes, elements - i, target + i * 2, payload));
  return counts;
}

template <class From>
Counts toFloat16(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& payload) {
  const NarrowKernel scalar = kScalarKernels.toFloat16[floatIndex(From::kDType)];
  return streams(target, elements * 2) ? narrowAll<Float16Tile, From, true>(source, elements, target, payload, scalar)
                                       : narrowAll<Float16Tile, From, false>(source, elements, target, payload, scalar);
}

template <class From>
Counts toBfloat16(const uint8_t* source, size_t elements, uint8_t* target, PayloadHash& payload) {
  const NarrowKernel scalar = kScalarKernels.toBfloat16[floatIndex(From::kDType)];
  return streams(target, elements * 2) ? narrowAll<Bfloat16Tile, From, true>(source, elements, target, payload, scalar)
                                       : narrowAll<Bfloat16Tile, From, false>(source, elements, target, payload, scalar);
}

// One block of `elements`, which is short of `block` at the end of a tensor; `padded` of them can be read, a multiple of
// the format's tile. What will be read `ahead` bytes later is asked for on the way.
template <class Format, class From>
void encodeBlock(const uint8_t* in, size_t elements, size_t padded, size_t block, size_t ahead, uint8_t* scale,
                 uint8_t* out, Counts& counts) {
  uint32_t absmaxBits;
  memcpy(&absmaxBits, scale, 4);
  // A zero block: 0 times infinity is NaN, whose code is 0 in every format.
  if (absmaxBits == 0) {
    memset(out, 0, Format::codeBytes(padded));
    return;
  }
  float absmax;
  memcpy(&absmax, &absmaxBits, 4);
  const float reciprocal = 1.0f / absmax;
  uint32_t reciprocalBits;
  memcpy(&reciprocalBits, &reciprocal, 4);
  if (absmaxBits >= 0x7f800000 || reciprocalBits >= 0x7f800000) {
    // Which writes the scale again: the one that is there may be a NaN's bits.
    add(counts, kScalarKernels.encodeBlocks[blockCodecIndex(Format::kCodec)][floatIndex(From::kDType)](
                    in, elements, block, scale, out));
    counts.slow += elements;
    return;
  }
  const typename Format::Encoder encoder(reciprocal);
  for (size_t i = 0; i < padded; i += Format::kMostEncoded) {
    const size_t n = padded - i < Format::kMostEncoded ? padded - i : Format::kMostEncoded;
    prefetch(in + i * From::kBytes + ahead, n * From::kBytes);
    encoder.template encode<From>(in + i * From::kBytes, n, out + Format::codeBytes(i));
  }
}

// Elements whose largest magnitudes are found before the first of them is encoded: they stay in the first-level cache.
constexpr size_t kGroupElements = 4096;

template <class Format, class From>
Counts encodeBlocks(const uint8_t* source, size_t elements, size_t block, uint8_t* scales, uint8_t* codes) {
  Counts counts;
  uint32_t largest[kGroup];
  const size_t whole = elements - elements % block;
  const size_t most = kGroupElements / block < kGroup ? kGroupElements / block : kGroup;
  for (size_t first = 0; first < whole;) {
    const size_t left = (whole - first) / block, blocks = left < most ? left : most;
    const uint8_t* in = source + first * From::kBytes;
    // The group itself has been read when it is encoded.
    const size_t ahead = blocks * block * From::kBytes + kAhead;
    largestMagnitudes<From>(in, block, blocks, largest);
    memcpy(scales, largest, 4 * blocks);
    for (size_t b = 0; b < blocks; b++, first += block, in += block * From::kBytes, scales += 4) {
      encodeBlock<Format, From>(in, block, block, block, ahead, scales, codes + Format::codeBytes(first), counts);
    }
  }
  if (whole < elements) {
    const size_t n = elements - whole, padded = (n + kStep - 1) / kStep * kStep;
    alignas(64) uint8_t in[kMaxBlock * From::kBytes], out[kMaxBlock];
    memcpy(in, source + whole * From::kBytes, n * From::kBytes);
    memset(in + n * From::kBytes, 0, (padded - n) * From::kBytes);
    largestMagnitudes<From>(in, padded, 1, largest);
    memcpy(scales, largest, 4);
    encodeBlock<Format, From>(in, n, padded, block, 0, scales, out, counts);
    memcpy(codes + Format::codeBytes(whole), out, Format::codeBytes(n));
  }
  return counts;
}

template <class Format, class To, bool kStream>
void decodeAll(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block, uint8_t* target,
               PayloadHash& payload) {
  RunningHash hash(payload);
  for (size_t first = 0; first < elements; first += block, scales += 4) {
    const size_t n = elements - first < block ? elements - first : block;
    const uint8_t* in = codes + Format::codeBytes(first);
    uint8_t* out = target + first * To::kBytes;
    float absmax;
    memcpy(&absmax, scales, 4);
    const typename Format::Decoder decoder(absmax);
    size_t i = 0;
    for (; i + Format::kTile <= n; i += Format::kTile) {
      prefetchPage<kStream>(out + i * To::kBytes, Format::kTile * To::kBytes);
      decoder.template decode<To, kStream>(in + Format::codeBytes(i), out + i * To::kBytes);
      hash.advance(in + Format::codeBytes(i + Format::kTile));
    }
    if (i < n) {
      alignas(64) uint8_t tileCodes[kStep] = {}, tile[kStep * To::kBytes];
      memcpy(tileCodes, in + Format::codeBytes(i), Format::codeBytes(n - i));
      decoder.template decode<To, false>(tileCodes, tile);
      memcpy(out + i * To::kBytes, tile, (n - i) * To::kBytes);
    }
  }
  if (kStream) finishStores();
  hash.finish();
}

template <class Format, class To>
void decodeBlocks(const uint8_t* scales, const uint8_t* codes, size_t elements, size_t block, uint8_t* target,
                  PayloadHash& payload) {
  if (streams(target, elements * To::kBytes)) {
    decodeAll<Format, To, true>(scales, codes, elements, block, target, payload);
  } else {
    decodeAll<Format, To, false>(scales, codes, elements, block, target, payload);
  }
}

}  // namespace
}  // namespace tensorwire
