// Bytes of equal significance to planes, and back, 16 elements at a time: loads and stores that take elements apart and
// put them together. Internal linkage throughout, for the reason given in lanes_neon.h.
#pragma once

#include "planes_scalar.h"

#include <arm_neon.h>

namespace tensorwire {
namespace {

constexpr size_t kPlaneStep = 16;

template <size_t kWidth>
struct PlaneStep;

template <>
struct PlaneStep<2> {
  static void split(const uint8_t* in, uint8x16_t planes[2]) {
    const uint8x16x2_t both = vld2q_u8(in);
    planes[0] = both.val[0];
    planes[1] = both.val[1];
  }
  static void join(const uint8x16_t planes[2], uint8_t* out) {
    // With a name: to clang these are macros, which a list would give too many arguments.
    const uint8x16x2_t all = {{planes[0], planes[1]}};
    vst2q_u8(out, all);
  }
};

template <>
struct PlaneStep<4> {
  static void split(const uint8_t* in, uint8x16_t planes[4]) {
    const uint8x16x4_t all = vld4q_u8(in);
    for (size_t k = 0; k < 4; k++) planes[k] = all.val[k];
  }
  static void join(const uint8x16_t planes[4], uint8_t* out) {
    const uint8x16x4_t all = {{planes[0], planes[1], planes[2], planes[3]}};
    vst4q_u8(out, all);
  }
};

// Four bytes apart are bytes k and k + 4 of an element, by turns.
template <>
struct PlaneStep<8> {
  static void split(const uint8_t* in, uint8x16_t planes[8]) {
    const uint8x16x4_t first = vld4q_u8(in), second = vld4q_u8(in + 64);
    for (size_t k = 0; k < 4; k++) {
      planes[k] = vuzp1q_u8(first.val[k], second.val[k]);
      planes[k + 4] = vuzp2q_u8(first.val[k], second.val[k]);
    }
  }
  static void join(const uint8x16_t planes[8], uint8_t* out) {
    uint8x16x4_t first, second;
    for (size_t k = 0; k < 4; k++) {
      first.val[k] = vzip1q_u8(planes[k], planes[k + 4]);
      second.val[k] = vzip2q_u8(planes[k], planes[k + 4]);
    }
    vst4q_u8(out, first);
    vst4q_u8(out + 64, second);
  }
};

template <size_t kWidth>
void splitPlanes(const uint8_t* source, size_t elements, uint8_t* planes, PayloadHash& hash) {
  RunningHash running(hash);
  size_t i = 0;
  for (; i + kPlaneStep <= elements; i += kPlaneStep) {
    uint8x16_t step[kWidth];
    PlaneStep<kWidth>::split(source + i * kWidth, step);
    for (size_t k = 0; k < kWidth; k++) vst1q_u8(planes + k * elements + i, step[k]);
    // The first plane's bytes, which are the payload's beginning.
    running.advance(planes + i + kPlaneStep);
  }
  running.finish();
  scalar::splitFrom<kWidth>(i, source, elements, planes);
}

template <size_t kWidth>
void joinPlanes(const uint8_t* const* planes, size_t elements, uint8_t* target, uint64_t* lanes) {
  if (lanes != nullptr) scalar::hashPlanes(planes, kWidth, elements, lanes);
  size_t i = 0;
  for (; i + kPlaneStep <= elements; i += kPlaneStep) {
    uint8x16_t step[kWidth];
    for (size_t k = 0; k < kWidth; k++) step[k] = vld1q_u8(planes[k] + i);
    PlaneStep<kWidth>::join(step, target + i * kWidth);
  }
  scalar::joinFrom<kWidth>(i, planes, elements, target);
}

constexpr PlaneKernels kNeonPlanes = {{splitPlanes<2>, splitPlanes<4>, splitPlanes<8>},
                                      {joinPlanes<2>, joinPlanes<4>, joinPlanes<8>}};

}  // namespace
}  // namespace tensorwire
