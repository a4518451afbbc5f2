// Objects on the C library's heap. The addon needs nothing of the C++ library then, whose static version wants a newer
// C library than the systems that a prebuilt file is for.
#pragma once

#include <cstdlib>
#include <new>

namespace tensorwire {

// Base of what is made with `new (std::nothrow)`.
struct CHeap {
  static void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return malloc(bytes); }
  static void operator delete(void* object) { free(object); }
  static void operator delete(void* object, const std::nothrow_t&) noexcept { free(object); }
};

// For a std::unique_ptr to what malloc gave.
struct CFree {
  void operator()(void* memory) const { free(memory); }
};

}  // namespace tensorwire
