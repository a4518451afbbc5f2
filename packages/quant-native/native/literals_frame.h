// zstd frames of Huffman codes alone, where the addon was built with libzstd's sources: what libzstd would make of bytes
// without a match, three times as fast.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensorwire {

enum class Texture {
  kNoise,   // nothing to be saved by codes
  kRuns,    // runs of one byte, which matches stand for with far fewer bits
  kSkewed,  // some bytes are more frequent than others
};

// What a few thousand bytes here and there look like. Segments below kShortestSampled are not worth it: kSkewed.
constexpr size_t kShortestSampled = 32 * 1024;
Texture textureOf(const uint8_t* bytes, size_t length);

// Whether there is makeLiteralsFrame here.
bool hasLiteralsFrames();

// libzstd's Huffman trees take a count of 2^30 for more than there can be of any byte.
constexpr size_t kLongestCoded = size_t{1} << 30;

// Writes one frame with `length` bytes, from kShortestSampled to kLongestCoded, to `target`; 0 where it needs more than
// `capacity`.
size_t makeLiteralsFrame(const uint8_t* bytes, size_t length, uint8_t* target, size_t capacity);

// Frees what the calling thread keeps from one frame to the next.
void forgetLiteralsFrames();

}  // namespace tensorwire
