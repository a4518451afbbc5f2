// The codecs on four floats at a time: NEON, which is a part of every 64-bit ARM processor.

#include "adaquant_scalar.h"
#include "block_formats_neon.h"
#include "code_bits_neon.h"
#include "kernel_table.h"
#include "linear_kernels.h"
#include "planes_neon.h"

namespace tensorwire {

const Kernels kNeonKernels = TENSORWIRE_KERNEL_TABLE("neon", kVectorLinear, scalar::kAdaquant, kNeonPlanes);

}  // namespace tensorwire
