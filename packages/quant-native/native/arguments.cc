#include "arguments.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace tensorwire {
namespace {

// A codec's parameters beside its block, as src/codec-options.ts writes them.
struct OptionBytes {
  uint32_t flags;
  float scale;
  uint64_t seed;
  double weight;
};
enum OptionFlags : uint32_t { kNested = 1, kAffine = 2, kStochastic = 4, kKnownFlags = 7 };

}  // namespace

Arguments::Arguments(napi_env env, napi_callback_info info) : env_(env) {
  // Node fills what the caller left out with undefined.
  size_t count = kMost;
  if (napi_get_cb_info(env, info, &count, values_, nullptr, nullptr) != napi_ok) {
    for (napi_value& value : values_) value = nullptr;
    fail("INTERNAL", "the arguments of a native call cannot be read");
  }
}

void Arguments::fail(const char* code, const char* message) {
  if (ok_) napi_throw_error(env_, code, message);
  ok_ = false;
}

uint64_t Arguments::integer(size_t index, const char* name, uint64_t largest) {
  double number = 0;
  if (!ok_) return 0;
  // The comparisons are false for NaN, and make the conversion below exact.
  if (napi_get_value_double(env_, values_[index], &number) == napi_ok && number >= 0 &&
      number <= static_cast<double>(largest) && number == static_cast<double>(static_cast<uint64_t>(number))) {
    return static_cast<uint64_t>(number);
  }
  char message[160];
  snprintf(message, sizeof message, "%s is not an integer from 0 to %llu", name,
           static_cast<unsigned long long>(largest));
  fail("INVALID_ARGUMENT", message);
  return 0;
}

uint64_t Arguments::hash(size_t index, const char* name) {
  uint64_t value = 0;
  bool lossless = false;
  if (!ok_) return 0;
  if (napi_get_value_bigint_uint64(env_, values_[index], &value, &lossless) == napi_ok && lossless) return value;
  char message[160];
  snprintf(message, sizeof message, "%s is not a bigint of 64 bits", name);
  fail("INVALID_ARGUMENT", message);
  return 0;
}

bool Arguments::absent(size_t index) const {
  napi_valuetype type = napi_undefined;
  return !ok_ || napi_typeof(env_, values_[index], &type) != napi_ok || type == napi_undefined;
}

Bytes Arguments::bytes(size_t index, const char* name) {
  Bytes bytes;
  if (!ok_) return bytes;
  bool isTypedArray = false;
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_is_typedarray(env_, values_[index], &isTypedArray) == napi_ok && isTypedArray &&
      napi_get_typedarray_info(env_, values_[index], &type, &bytes.length, &data, nullptr, nullptr) == napi_ok &&
      type == napi_uint8_array) {
    bytes.view = values_[index];
    bytes.data = static_cast<uint8_t*>(data);
    return bytes;
  }
  char message[160];
  snprintf(message, sizeof message, "the %s is not a Uint8Array", name);
  fail("INVALID_ARGUMENT", message);
  return {};
}

Bytes Arguments::optionalBytes(size_t index, const char* name) {
  return absent(index) ? Bytes{} : bytes(index, name);
}

Bytes Arguments::sums(size_t index, DType& dtype) {
  Bytes bytes;
  if (!ok_) return bytes;
  bool isTypedArray = false;
  napi_typedarray_type type;
  void* data = nullptr;
  size_t count = 0;
  if (napi_is_typedarray(env_, values_[index], &isTypedArray) == napi_ok && isTypedArray &&
      napi_get_typedarray_info(env_, values_[index], &type, &count, &data, nullptr, nullptr) == napi_ok &&
      (type == napi_float32_array || type == napi_float64_array)) {
    dtype = type == napi_float32_array ? DType::kF32 : DType::kF64;
    bytes.view = values_[index];
    bytes.data = static_cast<uint8_t*>(data);
    bytes.length = count * elementBytes(dtype);
    return bytes;
  }
  fail("INVALID_ARGUMENT", "the accumulator is neither a Float32Array nor a Float64Array");
  return bytes;
}

double Arguments::weight(size_t index, DType dtype) {
  double number = 0;
  if (!ok_) return 0;
  if (napi_get_value_double(env_, values_[index], &number) == napi_ok && std::isfinite(number) &&
      (dtype != DType::kF32 || std::isfinite(static_cast<float>(number)))) {
    return number;
  }
  fail("INVALID_ARGUMENT", "the weight is not a finite number of the accumulator's precision");
  return 0;
}

uint64_t Arguments::optionalHash(size_t index, bool& given) {
  given = !absent(index);
  return given ? hash(index, "the hash") : 0;
}

napi_value Arguments::callback(size_t index) {
  napi_valuetype type = napi_undefined;
  if (absent(index)) return nullptr;
  if (napi_typeof(env_, values_[index], &type) == napi_ok && type == napi_function) return values_[index];
  fail("INVALID_ARGUMENT", "the callback is not a function");
  return nullptr;
}

ChunkShape Arguments::shape(size_t first, size_t options) {
  const uint64_t codec = integer(first, "the codec", kLargestCodec);
  const uint64_t block = integer(first + 1, "the block", kMaxBlock);
  const uint64_t dtype = integer(first + 2, "the dtype", kDTypes - 1);
  const uint64_t elements = integer(first + 3, "the number of elements", kMaxElements);
  ChunkShape shape;
  if (!ok_) return shape;
  if (!isCodec(codec)) {
    fail("INVALID_ARGUMENT", "no codec has this number");
    return shape;
  }
  shape.codec = static_cast<Codec>(codec);
  shape.dtype = static_cast<DType>(dtype);
  shape.elements = static_cast<size_t>(elements);
  if (shape.dtype == DType::kRaw && shape.codec != Codec::kNone && shape.codec != Codec::kLossless) {
    fail("INVALID_ARGUMENT", "only the codecs none and lossless take raw bytes");
  }
  this->options(options, shape);
  const bool shared = isLinearCodec(shape.codec) && shape.linear.scale != 0;
  if ((isBlockCodec(shape.codec) || isLinearCodec(shape.codec)) && !shared) {
    if (isBlockSize(shape.codec, block)) shape.block = static_cast<size_t>(block);
    else fail("INVALID_ARGUMENT", "the codec does not take this block");
  }
  return shape;
}

void Arguments::options(size_t index, ChunkShape& shape) {
  OptionBytes options = {0, 0, 0, 0};
  if (const Bytes bytes = optionalBytes(index, "codec's options"); bytes.view != nullptr) {
    if (bytes.length != sizeof options) fail("INVALID_ARGUMENT", "the codec's options do not have their length");
    else memcpy(&options, bytes.data, sizeof options);
  }
  if (!ok_) return;
  if ((options.flags & ~kKnownFlags) != 0) fail("INVALID_ARGUMENT", "the codec's options have an unknown flag");
  shape.nested = (options.flags & kNested) != 0;
  if (shape.nested && !isNibbleCodec(shape.codec)) fail("INVALID_ARGUMENT", "the codec's scales cannot be nested");
  if (isLinearCodec(shape.codec)) {
    shape.linear.affine = (options.flags & kAffine) != 0;
    shape.linear.stochastic = (options.flags & kStochastic) != 0;
    shape.linear.scale = options.scale;
    shape.linear.seed = options.seed;
    checkLinear(shape);
  } else if (shape.codec == Codec::kAdaquant) {
    shape.weight = options.weight;
    if (!(options.weight > 0) || std::isinf(options.weight)) {
      fail("INVALID_ARGUMENT", "the weight is not positive and finite");
    }
  }
}

void Arguments::checkLinear(const ChunkShape& shape) {
  const float scale = shape.linear.scale;
  if (scale == 0) return;
  if (shape.linear.affine) fail("INVALID_ARGUMENT", "with a scale there are no offsets");
  const float largest = static_cast<float>((1 << (shape.linearBits() - 1)) - 1);
  if (!(scale > 0) || !std::isnormal(scale) || !std::isnormal(1 / scale) || !std::isfinite(largest * scale)) {
    fail("INVALID_ARGUMENT", "the scale is not one that can be multiplied with and divided by");
  }
}

void Arguments::position(size_t first, ChunkShape& shape) {
  if (!ok_ || !isLinearCodec(shape.codec) || !shape.linear.stochastic) return;
  shape.linear.tensor = hash(first, "the tensor's hash");
  shape.linear.first = integer(first + 1, "the first element", kMaxElements);
}

Segments Arguments::segments(size_t index) {
  Segments segments;
  uint32_t count = 0;
  if (!ok_) return segments;
  if (napi_get_array_length(env_, values_[index], &count) != napi_ok || count > kMaxSegments) {
    fail("INVALID_ARGUMENT", "the segments are not an array of a few lengths");
    return segments;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value value = nullptr;
    double length = -1;
    if (napi_get_element(env_, values_[index], i, &value) != napi_ok ||
        napi_get_value_double(env_, value, &length) != napi_ok || !(length >= 0) ||
        length > static_cast<double>(kMaxElements) || length != static_cast<double>(static_cast<uint64_t>(length))) {
      fail("INVALID_ARGUMENT", "a segment's length is not a count of bytes");
      return {};
    }
    segments.add(static_cast<uint64_t>(length));
  }
  return segments;
}

DType Arguments::output(size_t index, const ChunkShape& shape) {
  const DType output = static_cast<DType>(integer(index, "the output dtype", kDTypes - 1));
  if ((output == DType::kRaw) != (shape.dtype == DType::kRaw)) {
    fail("INVALID_ARGUMENT", "raw bytes are decoded to raw bytes, and floats to floats");
  }
  return output;
}

void Arguments::requireFloats(const ChunkShape& shape) {
  if (ok_ && shape.dtype == DType::kRaw) fail("INVALID_ARGUMENT", "only floats are summed");
}

void Arguments::require(const Bytes& bytes, uint64_t needed, const char* name) {
  if (!ok_ || bytes.length >= needed) return;
  char message[160];
  snprintf(message, sizeof message, "the %s needs %llu bytes and has %llu", name,
           static_cast<unsigned long long>(needed), static_cast<unsigned long long>(bytes.length));
  fail("INVALID_ARGUMENT", message);
}

}  // namespace tensorwire
