// zstd frames (RFC 8878), where the addon was built with libzstd, which only this and literals_frame.h know.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensorwire {

// Whether frames can be made and undone here.
bool hasZstd();

// What the bytes are. Of 4 MiB of N(0, 0.02²) and of sparse weights, on Zen 5:
//
//                                     kWeights            kAnything (level 1)
//   the exponents of bf16 and f32     33.9 %, 2.2 GB/s    36.8 %, 0.4 GB/s
//   codes of every codec              within 0.1 %, a tenth faster
//   the same, half of them zeros      3 % smaller, 3 × as fast
//   the same, every fourth row zeros  1 % larger, 1.5 × as fast
//   raw floats, most of them zeros    40 % larger
enum class FrameEffort {
  kWeights,   // codes and planes: their frequencies matter, and runs of zeros; hardly a sequence comes twice
  kAnything,  // whatever a model may hold besides
};

// Writes one frame with `length` bytes to `target`; 0 where it needs more than `capacity`.
size_t makeFrame(FrameEffort effort, const uint8_t* bytes, size_t length, uint8_t* target, size_t capacity);

// Fills `target` from one frame of exactly `length` bytes. False, and the target's contents mean nothing, where it is
// not one, asks for a dictionary, or for a window of more than twice its content.
bool openFrame(const uint8_t* frame, size_t frameLength, uint8_t* target, size_t length);

// Frees what the calling thread keeps from one frame to the next.
void forgetFrames();

}  // namespace tensorwire
