// A chunk through a codec: kernels and checksum in one call. Pure functions of bytes; no JavaScript here.
#pragma once

#include "kernels.h"

namespace tensorwire {

// Checked by whoever makes one: see arguments.h.
struct ChunkShape {
  Codec codec;
  DType dtype;
  size_t block;  // 1 where the codec has no blocks
  size_t elements;

  uint64_t sourceBytes() const { return elements * elementBytes(dtype); }
  uint64_t payload() const { return payloadBytes(codec, dtype, block, elements); }
  uint64_t scales() const { return scaleBytes(codec, block, elements); }
};

struct EncodedChunk {
  Counts counts;
  uint64_t hash = 0;
};

// Writes shape.payload() bytes to `target`, and hashes them while they are in the cache.
EncodedChunk encodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target);

// Writes the elements as `output` to `target` if the payload has this hash, and else writes nothing and returns false.
bool decodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t hash, DType output,
                 uint8_t* target);

uint64_t hashBytes(const uint8_t* bytes, size_t length);

}  // namespace tensorwire
