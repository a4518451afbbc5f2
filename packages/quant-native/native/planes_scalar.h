// Bytes of equal significance to planes, and back, one element at a time. Internal linkage: vector files call this for
// what is left of a chunk.
#pragma once

#include "kernels.h"
#include "xxh64.h"

namespace tensorwire {
namespace scalar {
namespace {

// The stripes of planes that lie apart, one plane behind the other, taken into xxh64's lanes a few at a time: beside the
// work of joining them that costs next to nothing.
class PlaneStripes {
 public:
  PlaneStripes(const uint8_t* const* planes, size_t elements, uint64_t* lanes)
      : next_(planes), elements_(elements), given_(lanes) {
    lanes_.a = lanes[0], lanes_.b = lanes[1], lanes_.c = lanes[2], lanes_.d = lanes[3];
  }
  PlaneStripes(const PlaneStripes&) = delete;
  PlaneStripes& operator=(const PlaneStripes&) = delete;

  void add(size_t stripes) {
    for (size_t i = 0; i < stripes; i++, at_ += xxh64::kStripe) {
      if (at_ == end_) {
        at_ = *next_++;
        end_ = at_ + elements_;
      }
      lanes_.add(at_);
    }
  }

  void finish() { given_[0] = lanes_.a, given_[1] = lanes_.b, given_[2] = lanes_.c, given_[3] = lanes_.d; }

 private:
  const uint8_t* const* next_;
  size_t elements_;
  uint64_t* given_;
  xxh64::Lanes lanes_;
  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
};

// A pass of its own.
inline void hashPlanes(const uint8_t* const* planes, size_t width, size_t elements, uint64_t* lanes) {
  PlaneStripes stripes(planes, elements, lanes);
  stripes.add(width * (elements / xxh64::kStripe));
  stripes.finish();
}

// Elements from `begin` on, plane after plane: one stream to write at a time.
template <size_t kWidth>
void splitFrom(size_t begin, const uint8_t* source, size_t elements, uint8_t* planes) {
  for (size_t k = 0; k < kWidth; k++) {
    for (size_t i = begin; i < elements; i++) planes[k * elements + i] = source[i * kWidth + k];
  }
}

template <size_t kWidth>
void joinFrom(size_t begin, const uint8_t* const* planes, size_t elements, uint8_t* target) {
  for (size_t i = begin; i < elements; i++) {
    for (size_t k = 0; k < kWidth; k++) target[i * kWidth + k] = planes[k][i];
  }
}

template <size_t kWidth>
void splitPlanes(const uint8_t* source, size_t elements, uint8_t* planes, PayloadHash&) {
  splitFrom<kWidth>(0, source, elements, planes);
}

template <size_t kWidth>
void joinPlanes(const uint8_t* const* planes, size_t elements, uint8_t* target, uint64_t* lanes) {
  if (lanes != nullptr) hashPlanes(planes, kWidth, elements, lanes);
  joinFrom<kWidth>(0, planes, elements, target);
}

constexpr PlaneKernels kPlanes = {{splitPlanes<2>, splitPlanes<4>, splitPlanes<8>},
                                  {joinPlanes<2>, joinPlanes<4>, joinPlanes<8>}};

}  // namespace
}  // namespace scalar
}  // namespace tensorwire
