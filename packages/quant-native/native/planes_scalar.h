// Bytes of equal significance to planes, and back, one element at a time. Internal linkage: vector files call this for
// what is left of a chunk.
#pragma once

#include "kernels.h"

namespace tensorwire {
namespace scalar {
namespace {

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
void splitPlanes(const uint8_t* source, size_t elements, uint8_t* planes) {
  splitFrom<kWidth>(0, source, elements, planes);
}

template <size_t kWidth>
void joinPlanes(const uint8_t* const* planes, size_t elements, uint8_t* target) {
  joinFrom<kWidth>(0, planes, elements, target);
}

constexpr PlaneKernels kPlanes = {{splitPlanes<2>, splitPlanes<4>, splitPlanes<8>},
                                  {joinPlanes<2>, joinPlanes<4>, joinPlanes<8>}};

}  // namespace
}  // namespace scalar
}  // namespace tensorwire
