// Which kernels this processor can run.
#pragma once

#include "kernels.h"

namespace tensorwire {

constexpr size_t kMaxIsas = 4;

// Writes the kernels that were compiled and that this processor runs, fastest first, and returns how many there are.
// The scalar ones are always the last.
size_t usableKernels(const Kernels* found[kMaxIsas]);

}  // namespace tensorwire
