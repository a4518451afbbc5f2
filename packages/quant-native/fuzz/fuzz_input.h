// What a fuzzer's bytes stand for: a head that names some shape that exists, whatever is in it, and a body. The same head
// is written by scripts/fuzz-seeds.mjs.
#pragma once

#include "chunk.h"
#include "dispatch.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tensorwire {

struct FuzzHead {
  uint8_t codec;
  uint8_t dtype;
  uint8_t block;
  uint8_t flags;
  uint8_t output;
  uint8_t offset;
  uint8_t width;
  uint8_t spare;
  float scale;
  uint32_t spare2;
  uint64_t seed;
  uint64_t tensor;
  uint64_t first;
  double weight;
};
static_assert(sizeof(FuzzHead) == 48, "as fuzz-seeds.mjs writes it");

constexpr uint8_t kFuzzNested = 1, kFuzzAffine = 2, kFuzzStochastic = 4, kFuzzScaled = 8, kFuzzPacked = 16;

// Every codec's number; --codec=NUMBER in the command line leaves one.
struct FuzzCodecs {
  uint8_t all[16];
  size_t count = 0;

  FuzzCodecs() {
    for (uint32_t id = 0; id <= kLargestCodec; id++) {
      if (isCodec(id)) all[count++] = static_cast<uint8_t>(id);
    }
  }

  void readArguments(int argc, char** argv) {
    for (int i = 1; i < argc; i++) {
      if (strncmp(argv[i], "--codec=", 8) == 0) {
        all[0] = static_cast<uint8_t>(atoi(argv[i] + 8));
        count = 1;
      }
    }
  }
};

// Bytes of exactly their length, `offset` past what malloc aligns: the sanitizer sees the first one beside them.
class FuzzBytes {
 public:
  FuzzBytes(size_t length, size_t offset) : length_(length), all_(static_cast<uint8_t*>(malloc(length + offset))) {
    data_ = all_ + offset;
    if (length > 0) memset(data_, 0xa5, length);
  }
  FuzzBytes(const uint8_t* bytes, size_t length, size_t offset) : FuzzBytes(length, offset) {
    if (length > 0) memcpy(data_, bytes, length);
  }
  ~FuzzBytes() { free(all_); }
  FuzzBytes(const FuzzBytes&) = delete;
  FuzzBytes& operator=(const FuzzBytes&) = delete;

  uint8_t* data() const { return data_; }
  size_t length() const { return length_; }
  bool equals(const FuzzBytes& other) const {
    return length_ == other.length_ && (length_ == 0 || memcmp(data_, other.data_, length_) == 0);
  }

 private:
  size_t length_;
  uint8_t* all_;
  uint8_t* data_;
};

// A defect that is no fault of memory: the fuzzer keeps the input.
[[noreturn]] inline void fuzzDefect(const char* what, const Kernels& kernels, const ChunkShape& shape) {
  fprintf(stderr, "%s: %s, codec %u of dtype %u, block %zu, %zu elements\n", what, kernels.isa,
          static_cast<unsigned>(shape.codec), static_cast<unsigned>(shape.dtype), shape.block, shape.elements);
  abort();
}

// A shape without elements that Arguments::shape would let through.
inline ChunkShape fuzzShape(const FuzzHead& head, const FuzzCodecs& codecs) {
  ChunkShape shape;
  shape.codec = static_cast<Codec>(codecs.all[head.codec % codecs.count]);
  const bool raw = shape.codec == Codec::kNone || shape.codec == Codec::kLossless;
  shape.dtype = static_cast<DType>(raw ? head.dtype % kDTypes : 1 + head.dtype % kFloats);
  shape.nested = isNibbleCodec(shape.codec) && (head.flags & kFuzzNested) != 0;
  if (shape.codec == Codec::kAdaquant) {
    shape.weight = head.weight > 0 && std::isfinite(head.weight) ? head.weight : 0.01;
  }
  if (isLinearCodec(shape.codec)) {
    shape.linear.stochastic = (head.flags & kFuzzStochastic) != 0;
    shape.linear.seed = head.seed;
    if (shape.linear.stochastic) {
      shape.linear.tensor = head.tensor;
      shape.linear.first = head.first % kMaxElements;
    }
    const float top = static_cast<float>((1 << (shape.linearBits() - 1)) - 1) * head.scale;
    if ((head.flags & kFuzzScaled) != 0 && head.scale > 0 && std::isnormal(head.scale) &&
        std::isnormal(1 / head.scale) && std::isfinite(top)) {
      shape.linear.scale = head.scale;
      return shape;
    }
    shape.linear.affine = (head.flags & kFuzzAffine) != 0;
  }
  if (isBlockCodec(shape.codec) || isLinearCodec(shape.codec)) {
    const uint64_t block = uint64_t{32} << (head.block % 8);
    shape.block = isBlockSize(shape.codec, block) ? block : kMaxBlock;
  }
  return shape;
}

inline DType fuzzOutput(const FuzzHead& head, const ChunkShape& shape) {
  return shape.dtype == DType::kRaw ? DType::kRaw : static_cast<DType>(1 + head.output % kFloats);
}

// Elements that are equal, or both NaN: conversions may leave other bits in one.
inline bool fuzzSameElements(DType dtype, const FuzzBytes& a, const FuzzBytes& b) {
  if (a.equals(b)) return true;
  const size_t width = elementBytes(dtype);
  for (size_t at = 0; at + width <= a.length(); at += width) {
    uint64_t bits[2] = {0, 0};
    memcpy(&bits[0], a.data() + at, width);
    memcpy(&bits[1], b.data() + at, width);
    if (bits[0] == bits[1]) continue;
    for (const uint64_t each : bits) {
      const bool nan = dtype == DType::kF16    ? (each & 0x7fff) > 0x7c00
                       : dtype == DType::kBF16 ? (each & 0x7fff) > 0x7f80
                       : dtype == DType::kF32  ? (each & 0x7fffffff) > 0x7f800000
                       : dtype == DType::kF64  ? (each & 0x7fffffffffffffff) > 0x7ff0000000000000
                                               : false;
      if (!nan) return false;
    }
  }
  return true;
}

}  // namespace tensorwire
