#include "arguments.h"

#include <cstdio>

namespace tensorwire {

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

uint64_t Arguments::hash(size_t index) {
  uint64_t value = 0;
  bool lossless = false;
  if (!ok_) return 0;
  if (napi_get_value_bigint_uint64(env_, values_[index], &value, &lossless) == napi_ok && lossless) return value;
  fail("INVALID_ARGUMENT", "the hash is not a bigint of 64 bits");
  return 0;
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

napi_value Arguments::callback(size_t index) {
  napi_valuetype type = napi_undefined;
  if (!ok_ || napi_typeof(env_, values_[index], &type) != napi_ok || type == napi_undefined) return nullptr;
  if (type == napi_function) return values_[index];
  fail("INVALID_ARGUMENT", "the callback is not a function");
  return nullptr;
}

ChunkShape Arguments::shape(size_t first) {
  const uint64_t codec = integer(first, "the codec", kCodecs - 1);
  const uint64_t block = integer(first + 1, "the block", kMaxBlock);
  const uint64_t dtype = integer(first + 2, "the dtype", kDTypes - 1);
  const uint64_t elements = integer(first + 3, "the number of elements", kMaxElements);
  ChunkShape shape = {static_cast<Codec>(codec), static_cast<DType>(dtype), static_cast<size_t>(block),
                      static_cast<size_t>(elements)};
  if (shape.dtype == DType::kRaw && shape.codec != Codec::kNone) {
    fail("INVALID_ARGUMENT", "only the codec none takes raw bytes");
  }
  if (!isBlockCodec(shape.codec)) shape.block = 1;
  else if (!isBlockSize(shape.codec, block)) fail("INVALID_ARGUMENT", "the codec does not take this block");
  return shape;
}

DType Arguments::output(size_t index, const ChunkShape& shape) {
  const DType output = static_cast<DType>(integer(index, "the output dtype", kDTypes - 1));
  if ((output == DType::kRaw) != (shape.dtype == DType::kRaw)) {
    fail("INVALID_ARGUMENT", "raw bytes are decoded to raw bytes, and floats to floats");
  }
  return output;
}

void Arguments::require(const Bytes& bytes, uint64_t needed, const char* name) {
  if (!ok_ || bytes.length >= needed) return;
  char message[160];
  snprintf(message, sizeof message, "the %s needs %llu bytes and has %llu", name,
           static_cast<unsigned long long>(needed), static_cast<unsigned long long>(bytes.length));
  fail("INVALID_ARGUMENT", message);
}

}  // namespace tensorwire
