// What JavaScript passed, checked against the views' real lengths before a byte is touched.
#pragma once

#include "chunk.h"

#define NAPI_VERSION 8
#include <node_api.h>

namespace tensorwire {

struct Bytes {
  napi_value view = nullptr;
  uint8_t* data = nullptr;
  size_t length = 0;
};

// The arguments of one call. The first that is wrong throws a JavaScript error whose `code` is a TensorwireError's;
// whatever is read after that is zero, so that a caller reads all it needs and then asks `ok()` once.
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info);

  bool ok() const { return ok_; }
  void fail(const char* code, const char* message);

  uint64_t integer(size_t index, const char* name, uint64_t largest);
  uint64_t hash(size_t index, const char* name);
  Bytes bytes(size_t index, const char* name);
  // The same, or none where it was left out.
  Bytes optionalBytes(size_t index, const char* name);
  // Sums of F32 or F64, by the kind of array; their length is in bytes.
  Bytes sums(size_t index, DType& dtype);
  // A number that is finite, also as F32 where `dtype` is that.
  double weight(size_t index, DType dtype);
  // The hash at `index`, or 0 and false where it was left out.
  uint64_t optionalHash(size_t index, bool& given);
  // The function at `index`, or nullptr where it was left out.
  napi_value callback(size_t index);
  napi_value value(size_t index) const { return values_[index]; }

  // Codec, block, dtype and elements, from `first` on, and the codec's other parameters at `options`, where it has any: a
  // combination that exists.
  ChunkShape shape(size_t first, size_t options);
  // Adds where the chunk lies, from `first` on, to what rounds by it.
  void position(size_t first, ChunkShape& shape);
  // The lengths of a payload's parts, as an array.
  Segments segments(size_t index);
  // What a payload of `shape` can be decoded to.
  DType output(size_t index, const ChunkShape& shape);
  // Refuses elements that are not floats.
  void requireFloats(const ChunkShape& shape);
  void require(const Bytes& bytes, uint64_t needed, const char* name);

 private:
  static constexpr size_t kMost = 12;
  bool absent(size_t index) const;
  void options(size_t index, ChunkShape& shape);
  void checkLinear(const ChunkShape& shape);

  napi_env env_;
  napi_value values_[kMost];
  bool ok_ = true;
};

}  // namespace tensorwire
