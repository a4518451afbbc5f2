#include "dispatch.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace tensorwire {

#ifdef __x86_64__
namespace {

struct Processor {
  uint32_t features1 = 0, features7b = 0, features7c = 0;
  // Which registers the operating system saves.
  uint32_t saved = 0;

  Processor() {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return;
    features1 = c;
    uint32_t high;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    features7b = b;
    features7c = c;
  }

  bool hasAvx2() const {
    constexpr uint32_t kXmmAndYmm = 0x06;
    return has(saved, kXmmAndYmm) && has(features1, bit_AVX | bit_F16C) && has(features7b, bit_AVX2);
  }

  bool hasAvx512() const {
    constexpr uint32_t kMasksAndZmm = 0xe6;
    return hasAvx2() && has(saved, kMasksAndZmm) &&
           has(features7b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) &&
           has(features7c, bit_AVX512VBMI);
  }

  static bool has(uint32_t features, uint32_t needed) { return (features & needed) == needed; }
};

}  // namespace
#endif

size_t usableKernels(const Kernels* found[kMaxIsas]) {
  size_t count = 0;
#ifdef __x86_64__
  [[maybe_unused]] const Processor processor;
#endif
#ifdef TENSORWIRE_AVX512
  if (processor.hasAvx512()) found[count++] = &kAvx512Kernels;
#endif
#ifdef TENSORWIRE_AVX2
  if (processor.hasAvx2()) found[count++] = &kAvx2Kernels;
#endif
#ifdef TENSORWIRE_NEON
  // Every 64-bit ARM processor has it.
  found[count++] = &kNeonKernels;
#endif
  found[count++] = &kScalarKernels;
  return count;
}

}  // namespace tensorwire
