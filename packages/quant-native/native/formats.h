// What a payload is: codec and dtype numbers, element widths, and where scales and codes lie.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensorwire {

// Elsewhere the addon does not compile, and the portable codecs serve.
static_assert(sizeof(size_t) == 8, "byte lengths are counted in 64 bits");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors and payloads are little-endian");

// Numbers on the wire: @tensorwire/core's codec ids.
enum class Codec : uint32_t { kNone, kFloat16, kBfloat16, kBlockwise8, kFloat4, kNormfloat4 };
constexpr uint32_t kCodecs = 6;

// kRaw is bytes that nobody computes with; the others index the kernel tables at (dtype - 1).
enum class DType : uint32_t { kRaw, kF16, kBF16, kF32, kF64 };
constexpr uint32_t kDTypes = 5;
constexpr uint32_t kFloats = 4;

constexpr size_t elementBytes(DType dtype) {
  return dtype == DType::kRaw ? 1 : dtype == DType::kF32 ? 4 : dtype == DType::kF64 ? 8 : 2;
}

constexpr bool isBlockCodec(Codec codec) { return codec >= Codec::kBlockwise8; }

// The largest count whose byte lengths all fit size_t: a JavaScript number's exact integers.
constexpr uint64_t kMaxElements = uint64_t{1} << 53;

constexpr uint64_t kMaxBlock = 4096;
constexpr uint64_t minBlock(Codec codec) { return codec == Codec::kBlockwise8 ? 64 : 32; }

// A power of two: blocks are even, so that no byte holds 4-bit codes of two blocks.
constexpr bool isBlockSize(Codec codec, uint64_t block) {
  return block >= minBlock(codec) && block <= kMaxBlock && (block & (block - 1)) == 0;
}

// Scales of all blocks come first, f32 each, then the codes; 4-bit codes have the even element in the high nibble.
constexpr uint64_t scaleBytes(Codec codec, uint64_t block, uint64_t elements) {
  return isBlockCodec(codec) ? (elements / block + (elements % block != 0)) * 4 : 0;
}

constexpr uint64_t payloadBytes(Codec codec, DType dtype, uint64_t block, uint64_t elements) {
  switch (codec) {
    case Codec::kNone:
      return elements * elementBytes(dtype);
    case Codec::kFloat16:
    case Codec::kBfloat16:
      return elements * 2;
    case Codec::kBlockwise8:
      return scaleBytes(codec, block, elements) + elements;
    case Codec::kFloat4:
    case Codec::kNormfloat4:
      return scaleBytes(codec, block, elements) + elements / 2 + elements % 2;
  }
  return 0;
}

}  // namespace tensorwire
