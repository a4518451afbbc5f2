// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC'11): four words from a
// counter and a key, and nothing kept between them. Internal linkage: vector files include this too.
#pragma once

#include <cstdint>

namespace tensorwire {
namespace {

struct PhiloxWords {
  uint32_t words[4];
};

inline PhiloxWords philox(uint64_t low, uint64_t high, uint64_t key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  uint32_t a = static_cast<uint32_t>(low), b = static_cast<uint32_t>(low >> 32);
  uint32_t c = static_cast<uint32_t>(high), d = static_cast<uint32_t>(high >> 32);
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t even = kMultiplier0 * a, odd = kMultiplier1 * c;
    a = static_cast<uint32_t>(odd >> 32) ^ b ^ key0;
    b = static_cast<uint32_t>(odd);
    c = static_cast<uint32_t>(even >> 32) ^ d ^ key1;
    d = static_cast<uint32_t>(even);
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return {{a, b, c, d}};
}

}  // namespace
}  // namespace tensorwire
