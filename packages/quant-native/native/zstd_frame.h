// zstd frames (RFC 8878), where the addon was built with libzstd: the only file that knows it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensorwire {

// Whether frames can be made and undone here.
bool hasZstd();

enum class FrameEffort {
  kLiterals,  // Huffman codes alone: for bytes whose order means nothing
  kMatches,   // repetitions too
};

// Writes one frame with `length` bytes to `target`; 0 where it needs more than `capacity`.
size_t makeFrame(FrameEffort effort, const uint8_t* bytes, size_t length, uint8_t* target, size_t capacity);

// Fills `target` from one frame of exactly `length` bytes. False, and the target's contents mean nothing, where it is
// not one, asks for a dictionary, or for a window of more than twice its content.
bool openFrame(const uint8_t* frame, size_t frameLength, uint8_t* target, size_t length);

}  // namespace tensorwire
