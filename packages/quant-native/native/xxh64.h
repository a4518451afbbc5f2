// XXH64, written from the xxHash specification 0.1.1: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
// Internal linkage throughout: see kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tensorwire {
namespace {

namespace xxh64 {

constexpr size_t kStripe = 32;

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9u;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5u;

inline uint64_t rotate(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

// memcpy: the bytes may begin at any address.
inline uint64_t load64(const uint8_t* at) {
  uint64_t x;
  memcpy(&x, at, sizeof x);
  return x;
}

inline uint32_t load32(const uint8_t* at) {
  uint32_t x;
  memcpy(&x, at, sizeof x);
  return x;
}

inline uint64_t round(uint64_t lane, uint64_t word) {
#ifndef __AVX512DQ__
  // Kept in a general register: compilers like to make a vector of the four lanes, whose multiplication takes far longer
  // where the processor has none of 64 bits.
  __asm__("" : "+r"(lane));
#endif
  return rotate(lane + word * kPrime2, 31) * kPrime1;
}

inline uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ round(0, lane)) * kPrime1 + kPrime4; }

// With seed 0.
struct Lanes {
  uint64_t a = kPrime1 + kPrime2, b = kPrime2, c = 0, d = 0 - kPrime1;

  void add(const uint8_t* stripe) {
    a = round(a, load64(stripe));
    b = round(b, load64(stripe + 8));
    c = round(c, load64(stripe + 16));
    d = round(d, load64(stripe + 24));
  }

  // Of `total` bytes, the last `left` of which, less than a stripe, lie at `rest`.
  uint64_t digest(const uint8_t* rest, size_t left, uint64_t total) const {
    uint64_t hash = kPrime5;
    if (total >= kStripe) {
      hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
      hash = merge(merge(merge(merge(hash, a), b), c), d);
    }
    hash += total;

    for (; left >= 8; rest += 8, left -= 8) hash = rotate(hash ^ round(0, load64(rest)), 27) * kPrime1 + kPrime4;
    if (left >= 4) {
      hash = rotate(hash ^ (load32(rest) * kPrime1), 23) * kPrime2 + kPrime3;
      rest += 4, left -= 4;
    }
    for (; left > 0; rest++, left--) hash = rotate(hash ^ (*rest * kPrime5), 11) * kPrime1;

    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    return hash ^ (hash >> 32);
  }
};

}  // namespace xxh64

// The hash of bytes that come in parts.
class Xxh64 {
 public:
  void update(const uint8_t* bytes, size_t length) {
    using xxh64::kStripe;
    total_ += length;
    if (held_ > 0) {
      const size_t wanted = kStripe - held_, taken = length < wanted ? length : wanted;
      if (taken > 0) memcpy(rest_ + held_, bytes, taken);
      held_ += taken;
      if (held_ < kStripe) return;
      lanes_.add(rest_);
      held_ = 0;
      bytes += taken;
      length -= taken;
    }
    xxh64::Lanes lanes = lanes_;
    for (; length >= kStripe; bytes += kStripe, length -= kStripe) lanes.add(bytes);
    lanes_ = lanes;
    held_ = length;
    if (held_ > 0) memcpy(rest_, bytes, held_);
  }

  uint64_t digest() const { return lanes_.digest(rest_, held_, total_); }

 private:
  xxh64::Lanes lanes_;
  uint64_t total_ = 0;
  size_t held_ = 0;
  uint8_t rest_[xxh64::kStripe];
};

inline uint64_t xxh64Of(const uint8_t* bytes, size_t length) {
  Xxh64 state;
  state.update(bytes, length);
  return state.digest();
}

}  // namespace
}  // namespace tensorwire
