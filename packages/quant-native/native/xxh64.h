// XXH64, written from the xxHash specification 0.1.1: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tensorwire {

namespace xxh64 {

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

inline uint64_t round(uint64_t lane, uint64_t word) { return rotate(lane + word * kPrime2, 31) * kPrime1; }

inline uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ round(0, lane)) * kPrime1 + kPrime4; }

}  // namespace xxh64

// The hash with seed 0 of bytes that come in parts.
class Xxh64 {
 public:
  void update(const uint8_t* bytes, size_t length) {
    total_ += length;
    if (held_ > 0) {
      const size_t wanted = kStripe - held_, taken = length < wanted ? length : wanted;
      if (taken > 0) memcpy(rest_ + held_, bytes, taken);
      held_ += taken;
      if (held_ < kStripe) return;
      stripes(rest_, kStripe);
      held_ = 0;
      bytes += taken;
      length -= taken;
    }
    const size_t whole = length - length % kStripe;
    stripes(bytes, whole);
    held_ = length - whole;
    if (held_ > 0) memcpy(rest_, bytes + whole, held_);
  }

  uint64_t digest() const {
    using namespace xxh64;
    uint64_t hash = kPrime5;
    if (total_ >= kStripe) {
      const uint64_t a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
      hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
      hash = merge(merge(merge(merge(hash, a), b), c), d);
    }
    hash += total_;

    const uint8_t* at = rest_;
    size_t left = held_;
    for (; left >= 8; at += 8, left -= 8) hash = rotate(hash ^ round(0, load64(at)), 27) * kPrime1 + kPrime4;
    if (left >= 4) {
      hash = rotate(hash ^ (load32(at) * kPrime1), 23) * kPrime2 + kPrime3;
      at += 4, left -= 4;
    }
    for (; left > 0; at++, left--) hash = rotate(hash ^ (*at * kPrime5), 11) * kPrime1;

    hash = (hash ^ (hash >> 33)) * kPrime2;
    hash = (hash ^ (hash >> 29)) * kPrime3;
    return hash ^ (hash >> 32);
  }

 private:
  static constexpr size_t kStripe = 32;

  void stripes(const uint8_t* at, size_t length) {
    using namespace xxh64;
    uint64_t a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
    for (const uint8_t* end = at + length; at != end; at += kStripe) {
      a = round(a, load64(at));
      b = round(b, load64(at + 8));
      c = round(c, load64(at + 16));
      d = round(d, load64(at + 24));
    }
    lanes_[0] = a, lanes_[1] = b, lanes_[2] = c, lanes_[3] = d;
  }

  uint64_t lanes_[4] = {xxh64::kPrime1 + xxh64::kPrime2, xxh64::kPrime2, 0, 0 - xxh64::kPrime1};
  uint64_t total_ = 0;
  size_t held_ = 0;
  uint8_t rest_[kStripe];
};

inline uint64_t xxh64Of(const uint8_t* bytes, size_t length) {
  Xxh64 state;
  state.update(bytes, length);
  return state.digest();
}

}  // namespace tensorwire
