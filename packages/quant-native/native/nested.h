// bitsandbytes' double quantization: the scales of float4 and normfloat4 in 8 bits. See docs/codecs.md.
#pragma once

#include "chunk_shape.h"

namespace tensorwire {

struct NestedChunk {
  Counts counts;
  bool done = false;  // false where there was no memory for the scales
};

// Writes shape.payload() bytes to `target`.
NestedChunk encodeNested(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target);

// Scales `first` … as they were before they were nested: of whole nested blocks, or within one.
void decodeNestedScales(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, size_t first,
                        size_t count, float* scales, PayloadHash& hash);

void decodeNested(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, DType output,
                  uint8_t* target, PayloadHash& hash);

}  // namespace tensorwire
