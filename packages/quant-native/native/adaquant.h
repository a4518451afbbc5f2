// Adaptive quantization: which levels a chunk gets, and the header that says so. See docs/codecs.md.
#pragma once

#include "chunk_shape.h"

namespace tensorwire {

struct AdaquantChunk {
  Counts counts;
  uint64_t bytes = 0;
  bool declined = false;  // nothing was written: the codec would save nothing
};

// Writes at most shape.payload() bytes to `target`.
AdaquantChunk encodeAdaquant(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target);

// How the codes of a payload, which begin at kAdaquantHeader, are decoded.
struct AdaquantCodes {
  bool valid = false;  // false where what the payload says of itself does not fit its length
  size_t width = 0;    // bytes of a code; 0 where there are none: then every element is decoded from a code of 0
  Levels levels = {0, 0, 0};
};
AdaquantCodes adaquantCodes(const ChunkShape& shape, const uint8_t* payload, uint64_t bytes);
DecodeLevelsKernel adaquantDecoder(const Kernels& kernels, const AdaquantCodes& codes, DType output);
bool adaquantExact(const ChunkShape& shape, DType output);

// False where what the payload says of itself does not fit its length.
bool decodeAdaquant(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t bytes,
                    DType output, uint8_t* target);

}  // namespace tensorwire
