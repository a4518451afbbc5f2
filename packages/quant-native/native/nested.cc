#include "nested.h"

#include "c_heap.h"
#include "float_bits.h"

#include <cstring>
#include <memory>

namespace tensorwire {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kOffsetBytes = 4;

constexpr uint32_t f32 = floatIndex(DType::kF32);

// The sum in the order of the format: lanes by index mod 16, then folded in halves.
float offsetOf(const float* scales, size_t count) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t k = 0; k < kLanes; k++) lanes[k] += scales[i + k];
  }
  for (size_t k = 0; i + k < count; k++) lanes[k] += scales[i + k];
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t k = 0; k < half; k++) lanes[k] += lanes[k + half];
  }
  const float offset = lanes[0] / static_cast<float>(count);
  return isNonFinite(offset) ? 0.0f : offset;
}

// Where the parts of a payload lie.
struct Parts {
  explicit Parts(const ChunkShape& shape)
      : blocks(shape.blocks()),
        outerScales(kOffsetBytes),
        innerCodes(outerScales + 4 * ceilingOf(blocks, kNestedBlock)),
        codes(innerCodes + blocks) {}

  size_t blocks, outerScales, innerCodes, codes;
};

constexpr uint32_t kInner = blockCodecIndex(Codec::kBlockwise8);

}  // namespace

NestedChunk encodeNested(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target) {
  if (shape.elements == 0) return {{}, true};
  const Parts parts(shape);
  const std::unique_ptr<float[], CFree> scales(static_cast<float*>(malloc(parts.blocks * sizeof(float))));
  if (!scales) return {};
  auto* bytes = reinterpret_cast<uint8_t*>(scales.get());
  NestedChunk chunk;
  chunk.done = true;
  chunk.counts = kernels.encodeBlocks[blockCodecIndex(shape.codec)][floatIndex(shape.dtype)](
      source, shape.elements, shape.block, bytes, target + parts.codes);
  const float offset = offsetOf(scales.get(), parts.blocks);
  memcpy(target, &offset, kOffsetBytes);
  for (size_t i = 0; i < parts.blocks; i++) scales[i] -= offset;
  kernels.encodeBlocks[kInner][f32](bytes, parts.blocks, kNestedBlock, target + parts.outerScales,
                                    target + parts.innerCodes);
  return chunk;
}

void decodeNestedScales(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, size_t first,
                        size_t count, float* scales, PayloadHash& hash) {
  const Parts parts(shape);
  float offset;
  memcpy(&offset, payload, kOffsetBytes);
  kernels.decodeBlocks[kInner][f32](payload + parts.outerScales + first / kNestedBlock * 4,
                                    payload + parts.innerCodes + first, count, kNestedBlock,
                                    reinterpret_cast<uint8_t*>(scales), hash);
  for (size_t i = 0; i < count; i++) scales[i] += offset;
}

void decodeNested(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, DType output,
                  uint8_t* target, PayloadHash& hash) {
  if (shape.elements == 0) return;
  const Parts parts(shape);
  const DecodeBlocksKernel decodeBlocks =
      kernels.decodeBlocks[blockCodecIndex(shape.codec)][floatIndex(output)];
  // Some scales at a time: few enough for the stack, and enough for targets that are written past the caches.
  constexpr size_t kScales = 16 * kNestedBlock;
  float scales[kScales];
  for (size_t first = 0; first < parts.blocks; first += kScales) {
    const size_t count = parts.blocks - first < kScales ? parts.blocks - first : kScales;
    decodeNestedScales(kernels, shape, payload, first, count, scales, hash);
    const size_t begin = first * shape.block;
    const size_t left = shape.elements - begin, elements = left < count * shape.block ? left : count * shape.block;
    decodeBlocks(reinterpret_cast<const uint8_t*>(scales), payload + parts.codes + begin / 2, elements, shape.block,
                 target + begin * elementBytes(output), hash);
  }
}

}  // namespace tensorwire
