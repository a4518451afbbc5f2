// A chunk's codec with its parameters, and what follows from them: where scale data, codes and planes lie.
#pragma once

#include "formats.h"
#include "kernels.h"

namespace tensorwire {

// Parts of a payload that are packed each by itself.
constexpr size_t kMaxSegments = 16;
struct Segments {
  uint64_t lengths[kMaxSegments] = {};
  size_t count = 0;

  void add(uint64_t length) { lengths[count++] = length; }
  uint64_t total() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += lengths[i];
    return sum;
  }
};

// adaquant: what stands before the codes.
constexpr uint64_t kAdaquantHeader = 24;

// Checked by whoever makes one: see arguments.h.
struct ChunkShape {
  Codec codec = Codec::kNone;
  DType dtype = DType::kRaw;
  size_t block = 1;  // 1 where the codec has no blocks
  size_t elements = 0;
  bool nested = false;          // float4, normfloat4
  LinearParameters linear = {};  // linearN
  double weight = 0;            // adaquant

  uint64_t sourceBytes() const { return elements * elementBytes(dtype); }
  uint64_t blocks() const { return ceilingOf(elements, block); }

  uint64_t scales() const {
    if (isBlockCodec(codec)) {
      if (!nested) return blocks() * 4;
      return elements == 0 ? 0 : 4 + 4 * ceilingOf(blocks(), kNestedBlock) + blocks();
    }
    if (isLinearCodec(codec)) return linear.scale != 0 ? 0 : blocks() * (linear.affine ? 8 : 4);
    return codec == Codec::kAdaquant && elements != 0 ? kAdaquantHeader : 0;
  }

  // linearN: where its offsets begin.
  uint64_t offsetsAt() const { return linear.scale != 0 ? 0 : blocks() * 4; }

  // The dtype of what a payload without codes holds.
  DType stored() const {
    return codec == Codec::kFloat16 ? DType::kF16 : codec == Codec::kBfloat16 ? DType::kBF16 : dtype;
  }

  // Bytes of the payload; of adaquant's, the most that there can be.
  uint64_t payload() const {
    switch (codec) {
      case Codec::kNone:
      case Codec::kLossless:
        return sourceBytes();
      case Codec::kFloat16:
      case Codec::kBfloat16:
        return elements * 2;
      case Codec::kBlockwise8:
        return scales() + elements;
      case Codec::kFloat4:
      case Codec::kNormfloat4:
        return scales() + ceilingOf(elements, 2);
      case Codec::kAdaquant:
        // Codes of half an element's width are the widest that save anything.
        return scales() + elements * (elementBytes(dtype) / 2);
      default:
        return scales() + elements / 8 * linearBits() + ceilingOf(elements % 8 * linearBits(), 8);
    }
  }

  // Whether some payload of this shape has this length.
  bool canBe(uint64_t bytes) const {
    if (codec != Codec::kAdaquant) return bytes == payload();
    for (size_t width = elementBytes(dtype) / 2; width != 0; width /= 2) {
      if (bytes == scales() + elements * width) return true;
    }
    return bytes == scales();
  }

  uint32_t linearBits() const { return static_cast<uint32_t>(codec) - 16; }

  // Of a payload of `bytes` bytes; none of them is empty.
  Segments segments(uint64_t bytes) const {
    Segments all;
    if (codec == Codec::kLossless) {
      if (elements != 0) {
        for (size_t plane = 0; plane < elementBytes(dtype); plane++) all.add(elements);
      }
      return all;
    }
    if (scales() != 0) all.add(scales());
    if (bytes > scales()) all.add(bytes - scales());
    return all;
  }
};

}  // namespace tensorwire
