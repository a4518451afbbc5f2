// What a fuzzer's bytes stand for: a chunk's codec with parameters that exist, and the bytes that go through it.
#pragma once

#include "../native/chunk.h"
#include "../native/dispatch.h"

#include <cstdlib>
#include <cstring>
#include <vector>

namespace tensorwire {

class ChunkInput {
 public:
  ChunkInput(const uint8_t* data, size_t size) : data_(data), size_(size) {
    constexpr Codec kAll[] = {Codec::kNone,     Codec::kFloat16,     Codec::kBfloat16, Codec::kBlockwise8, Codec::kFloat4,
                              Codec::kNormfloat4, Codec::kAdaquant, Codec::kLossless};
    const uint8_t codec = byte() % 15;
    shape.codec = codec < 8 ? kAll[codec] : static_cast<Codec>(codec + 10);
    shape.dtype = static_cast<DType>(1 + byte() % kFloats);
    output = static_cast<DType>(1 + byte() % kFloats);
    const uint8_t flags = byte();
    if (isBlockCodec(shape.codec) || isLinearCodec(shape.codec)) {
      const size_t least = minBlock(shape.codec);
      shape.block = least << (byte() % (least == 64 ? 7 : 8));
    }
    shape.nested = isNibbleCodec(shape.codec) && (flags & 1) != 0;
    if (isLinearCodec(shape.codec)) {
      const bool shared = (flags & 2) != 0;
      shape.linear.scale = shared ? 0.001f : 0;
      shape.linear.affine = !shared && (flags & 4) != 0;
      shape.linear.stochastic = (flags & 8) != 0;
      shape.linear.seed = flags;
      shape.linear.first = word();
    }
    shape.weight = (flags & 16) != 0 ? 0.01 : 1e-6;
    if (shared()) shape.block = 1;
    // Mostly short: what goes wrong does so at the ends.
    shape.elements = (flags & 32) != 0 ? word() % 50000 : byte();
  }

  // The next `length` bytes, from the beginning again where there are no more: in memory of exactly that length.
  std::vector<uint8_t> take(size_t length) {
    std::vector<uint8_t> bytes(length);
    for (size_t i = 0; i < length; i++) bytes[i] = size_ == 0 ? 0 : data_[i % size_];
    return bytes;
  }

  std::vector<uint8_t> rest() { return take(size_); }

  ChunkShape shape;
  DType output;

 private:
  bool shared() const { return isLinearCodec(shape.codec) && shape.linear.scale != 0; }
  uint8_t byte() {
    if (size_ == 0) return 0;
    size_--;
    return *data_++;
  }
  uint32_t word() { return byte() | byte() << 8; }

  const uint8_t* data_;
  size_t size_;
};

// The same bits, but for NaNs, whose payload is the processor's affair.
inline bool sameElements(DType dtype, const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  const size_t width = elementBytes(dtype);
  for (size_t i = 0; i < a.size(); i += width) {
    if (memcmp(&a[i], &b[i], width) == 0) continue;
    const uint32_t top[2] = {static_cast<uint32_t>(a[i + width - 1] << 8 | a[i + width - 2]),
                             static_cast<uint32_t>(b[i + width - 1] << 8 | b[i + width - 2])};
    const uint32_t exponent = dtype == DType::kF16 ? 0x7c00 : dtype == DType::kF64 ? 0x7ff0 : 0x7f80;
    if ((top[0] & exponent) != exponent || (top[1] & exponent) != exponent) return false;
  }
  return true;
}

struct Isas {
  const Kernels* kernels[kMaxIsas];
  size_t count = usableKernels(kernels);
};

}  // namespace tensorwire
