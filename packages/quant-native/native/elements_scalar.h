// Each float type one element at a time, as f32, which is what most arithmetic is in, and as binary64. Internal linkage
// throughout: vector files include this too, compiled with flags of their own.
#pragma once

#include "float_bits.h"
#include "formats.h"

#include <cstring>

namespace tensorwire {
namespace scalar {
namespace {

template <class T>
T loadAt(const uint8_t* bytes, size_t i) {
  T value;
  memcpy(&value, bytes + i * sizeof value, sizeof value);
  return value;
}

template <class T>
void storeAt(uint8_t* bytes, size_t i, T value) {
  memcpy(bytes + i * sizeof value, &value, sizeof value);
}

struct F16 {
  static constexpr size_t kBytes = 2;
  static float load(const uint8_t* bytes, size_t i) { return fromHalf(loadAt<uint16_t>(bytes, i)); }
  static double loadWide(const uint8_t* bytes, size_t i) { return static_cast<double>(load(bytes, i)); }
  static void store(uint8_t* bytes, size_t i, float value) { storeAt(bytes, i, toHalf(value)); }
};

struct BF16 {
  static constexpr size_t kBytes = 2;
  static float load(const uint8_t* bytes, size_t i) { return fromBrain(loadAt<uint16_t>(bytes, i)); }
  static double loadWide(const uint8_t* bytes, size_t i) { return static_cast<double>(load(bytes, i)); }
  static void store(uint8_t* bytes, size_t i, float value) { storeAt(bytes, i, toBrain(value)); }
};

struct F32 {
  static constexpr size_t kBytes = 4;
  static float load(const uint8_t* bytes, size_t i) { return loadAt<float>(bytes, i); }
  static double loadWide(const uint8_t* bytes, size_t i) { return static_cast<double>(load(bytes, i)); }
  static void store(uint8_t* bytes, size_t i, float value) { storeAt(bytes, i, value); }
};

struct F64 {
  static constexpr size_t kBytes = 8;
  static float load(const uint8_t* bytes, size_t i) { return static_cast<float>(loadAt<double>(bytes, i)); }
  static double loadWide(const uint8_t* bytes, size_t i) { return loadAt<double>(bytes, i); }
  static void store(uint8_t* bytes, size_t i, float value) { storeAt(bytes, i, static_cast<double>(value)); }
};

}  // namespace
}  // namespace scalar
}  // namespace tensorwire
