#include "dispatch.h"

#ifdef TENSORWIRE_AVX2
#include <cpuid.h>
#endif

namespace tensorwire {

#ifdef TENSORWIRE_AVX2
namespace {

// The processor has AVX2 and F16C, and the operating system saves the upper halves of their registers.
bool hasAvx2() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  constexpr uint32_t kNeeded = bit_OSXSAVE | bit_AVX | bit_F16C;
  if ((c & kNeeded) != kNeeded) return false;
  uint32_t saved, high;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  constexpr uint32_t kXmmAndYmm = 6;
  if ((saved & kXmmAndYmm) != kXmmAndYmm) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2) != 0;
}

}  // namespace
#endif

size_t usableKernels(const Kernels* found[kMaxIsas]) {
  size_t count = 0;
#ifdef TENSORWIRE_AVX2
  if (hasAvx2()) found[count++] = &kAvx2Kernels;
#endif
  found[count++] = &kScalarKernels;
  return count;
}

}  // namespace tensorwire
