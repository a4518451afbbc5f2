// The arithmetic that the formats are defined in: round to nearest even, subnormals kept. A library that was built with
// -ffast-math switches its whole process, and every thread started from then on, to flushing them.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace tensorwire {

// While it lives, this thread computes as IEEE 754 says.
class IeeeMode {
 public:
  IeeeMode() : before_(read()) { write(kDefault); }
  ~IeeeMode() { write(before_); }
  IeeeMode(const IeeeMode&) = delete;
  IeeeMode& operator=(const IeeeMode&) = delete;

 private:
#if defined(__x86_64__)
  using Control = uint32_t;
  static constexpr Control kDefault = 0x1f80;  // all exceptions masked, nearest, no flush, no denormals-are-zero
  static Control read() { return _mm_getcsr(); }
  static void write(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  using Control = uint64_t;
  static constexpr Control kDefault = 0;
  static Control read() {
    Control control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }
#else
  using Control = uint32_t;
  static constexpr Control kDefault = 0;
  static Control read() { return 0; }
  static void write(Control) {}
#endif

  Control before_;
};

}  // namespace tensorwire
