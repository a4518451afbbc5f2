// What a payload is made of: codec and dtype numbers, element widths, and which blocks there are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tensorwire {

// Elsewhere the addon does not compile, and the portable codecs serve.
static_assert(sizeof(size_t) == 8, "byte lengths are counted in 64 bits");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors and payloads are little-endian");

// Numbers on the wire: @tensorwire/core's codec ids. linearN is 16 + N.
enum class Codec : uint32_t {
  kNone,
  kFloat16,
  kBfloat16,
  kBlockwise8,
  kFloat4,
  kNormfloat4,
  kAdaquant,
  kLossless,
  kLinear2 = 18,
  kLinear8 = 24,
};
constexpr uint32_t kLargestCodec = 24;

// kRaw is bytes that nobody computes with; the others index the kernel tables at (dtype - 1).
enum class DType : uint32_t { kRaw, kF16, kBF16, kF32, kF64 };
constexpr uint32_t kDTypes = 5;
constexpr uint32_t kFloats = 4;

constexpr size_t elementBytes(DType dtype) {
  return dtype == DType::kRaw ? 1 : dtype == DType::kF32 ? 4 : dtype == DType::kF64 ? 8 : 2;
}

constexpr bool isBlockCodec(Codec codec) { return codec >= Codec::kBlockwise8 && codec <= Codec::kNormfloat4; }
constexpr bool isNibbleCodec(Codec codec) { return codec == Codec::kFloat4 || codec == Codec::kNormfloat4; }
constexpr bool isLinearCodec(Codec codec) { return codec >= Codec::kLinear2 && codec <= Codec::kLinear8; }
constexpr bool isCodec(uint64_t id) {
  return id <= static_cast<uint32_t>(Codec::kLossless) || (id >= static_cast<uint32_t>(Codec::kLinear2) && id <= kLargestCodec);
}

// The largest count whose byte lengths all fit size_t: a JavaScript number's exact integers.
constexpr uint64_t kMaxElements = uint64_t{1} << 53;

constexpr uint64_t kMaxBlock = 4096;
constexpr uint64_t minBlock(Codec codec) { return codec == Codec::kBlockwise8 ? 64 : 32; }

// A power of two: every block's codes begin with a byte.
constexpr bool isBlockSize(Codec codec, uint64_t block) {
  return block >= minBlock(codec) && block <= kMaxBlock && (block & (block - 1)) == 0;
}

constexpr uint64_t ceilingOf(uint64_t count, uint64_t divisor) { return count / divisor + (count % divisor != 0); }

// Nested scales are encoded as blockwise8 in blocks of this many.
constexpr size_t kNestedBlock = 256;

}  // namespace tensorwire
