// Where the bits of eight codes lie in their bytes, for processors that permute the bytes of 128 bits. Internal linkage
// throughout: see kernels.h.
#pragma once

#include <cstdint>

namespace tensorwire {
namespace {

template <uint32_t kBits>
struct CodeBytes {
  // Of two groups of eight codes, the bytes that hold bits: `kBits` of each.
  alignas(16) uint8_t together[16] = {};
  // Of one group, the two bytes that hold each code's bits, and what moves these to the top of the two.
  alignas(16) uint8_t apart[16] = {};
  alignas(16) uint16_t toTop[8] = {};

  constexpr CodeBytes() {
    for (uint32_t i = 0; i < 16; i++) {
      together[i] = static_cast<uint8_t>(i < kBits ? i : i < 2 * kBits ? i + 8 - kBits : 0x80);
    }
    for (uint32_t i = 0; i < 8; i++) {
      const uint32_t byte = i * kBits / 8, begin = i * kBits % 8;
      apart[2 * i] = static_cast<uint8_t>(byte);
      // The last code has no byte behind it.
      apart[2 * i + 1] = static_cast<uint8_t>(byte + 1 < kBits ? byte + 1 : 0x80);
      toTop[i] = static_cast<uint16_t>(1u << (16 - begin - kBits));
    }
  }
};

template <uint32_t kBits>
constexpr CodeBytes<kBits> kCodeBytes{};

}  // namespace
}  // namespace tensorwire
