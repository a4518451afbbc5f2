// The hash of a payload, advanced a few stripes at a time from inside a kernel's loop. A stripe is four chains of
// multiplications that wait for one another: beside a codec's own work they cost next to nothing, while a pass of their
// own takes as long as a fast codec. Internal linkage throughout: see kernels.h.
#pragma once

#include "xxh64.h"

namespace tensorwire {

// Of a payload's bytes from `begin` to `at`, which is whole stripes. A plain record, that tables of kernels can name.
struct PayloadHash {
  const uint8_t* begin;
  const uint8_t* at;
  uint64_t lanes[4];
};

namespace {

inline PayloadHash hashFrom(const uint8_t* begin) {
  const xxh64::Lanes lanes;
  return {begin, begin, {lanes.a, lanes.b, lanes.c, lanes.d}};
}

// What a kernel advances: a copy of its own, so that it stays in registers, given back when it is done.
class RunningHash {
 public:
  explicit RunningHash(PayloadHash& hash) : hash_(hash), at_(hash.at) {
    lanes_.a = hash.lanes[0], lanes_.b = hash.lanes[1], lanes_.c = hash.lanes[2], lanes_.d = hash.lanes[3];
  }
  RunningHash(const RunningHash&) = delete;
  RunningHash& operator=(const RunningHash&) = delete;

  // Takes in what lies before `end`, as far as it is whole stripes. An `end` that was passed already does nothing.
  void advance(const uint8_t* end) {
    for (; end - at_ >= static_cast<ptrdiff_t>(xxh64::kStripe); at_ += xxh64::kStripe) lanes_.add(at_);
  }

  // Takes in the next `stripes`, which lie in the payload as they do at `copy`.
  void advance(const uint8_t* copy, size_t stripes) {
    for (size_t i = 0; i < stripes; i++) lanes_.add(copy + i * xxh64::kStripe);
    at_ += stripes * xxh64::kStripe;
  }

  void finish() {
    hash_.at = at_;
    hash_.lanes[0] = lanes_.a, hash_.lanes[1] = lanes_.b, hash_.lanes[2] = lanes_.c, hash_.lanes[3] = lanes_.d;
  }

 private:
  PayloadHash& hash_;
  const uint8_t* at_;
  xxh64::Lanes lanes_;
};

// The hash of the whole payload, which ends at `end`.
inline uint64_t digestOf(PayloadHash& hash, const uint8_t* end) {
  RunningHash running(hash);
  running.advance(end);
  running.finish();
  xxh64::Lanes lanes;
  lanes.a = hash.lanes[0], lanes.b = hash.lanes[1], lanes.c = hash.lanes[2], lanes.d = hash.lanes[3];
  return lanes.digest(hash.at, static_cast<size_t>(end - hash.at), static_cast<uint64_t>(end - hash.begin));
}

}  // namespace
}  // namespace tensorwire
