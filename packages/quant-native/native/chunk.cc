#include "chunk.h"

#include "ieee_mode.h"
#include "xxh64.h"

#include <cstring>

namespace tensorwire {
namespace {

void copy(const uint8_t* source, uint64_t bytes, uint8_t* target) {
  if (bytes > 0) memcpy(target, source, bytes);
}

Counts encodePayload(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target) {
  switch (shape.codec) {
    case Codec::kNone:
      copy(source, shape.sourceBytes(), target);
      return {};
    case Codec::kFloat16:
      return kernels.toFloat16[floatIndex(shape.dtype)](source, shape.elements, target);
    case Codec::kBfloat16:
      return kernels.toBfloat16[floatIndex(shape.dtype)](source, shape.elements, target);
    default:
      return kernels.encodeBlocks[blockCodecIndex(shape.codec)][floatIndex(shape.dtype)](
          source, shape.elements, shape.block, target, target + shape.scales());
  }
}

// The dtype that a payload without codes holds.
DType storedDType(const ChunkShape& shape) {
  return shape.codec == Codec::kFloat16 ? DType::kF16 : shape.codec == Codec::kBfloat16 ? DType::kBF16 : shape.dtype;
}

}  // namespace

EncodedChunk encodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target) {
  const IeeeMode ieee;
  EncodedChunk chunk;
  chunk.counts = encodePayload(kernels, shape, source, target);
  // Scales come first in the payload and are known last, so that the hash cannot run along with the blocks.
  chunk.hash = xxh64Of(target, shape.payload());
  return chunk;
}

bool decodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t hash, DType output,
                 uint8_t* target) {
  if (xxh64Of(payload, shape.payload()) != hash) return false;
  const IeeeMode ieee;
  if (isBlockCodec(shape.codec)) {
    kernels.decodeBlocks[blockCodecIndex(shape.codec)][floatIndex(output)](
        payload, payload + shape.scales(), shape.elements, shape.block, target);
  } else if (const DType stored = storedDType(shape); stored == output) {
    copy(payload, shape.payload(), target);
  } else {
    kernels.convert[floatIndex(stored)][floatIndex(output)](payload, shape.elements, target);
  }
  return true;
}

uint64_t hashBytes(const uint8_t* bytes, size_t length) { return xxh64Of(bytes, length); }

}  // namespace tensorwire
