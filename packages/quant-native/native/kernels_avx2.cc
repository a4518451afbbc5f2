// The codecs on eight floats at a time: AVX2 and F16C.

#include "adaquant_scalar.h"
#include "block_formats_avx2.h"
#include "code_bits_avx2.h"
#include "kernel_table.h"
#include "linear_kernels.h"
#include "planes_avx2.h"
#include "vector_kernels.h"

namespace tensorwire {

const Kernels kAvx2Kernels = TENSORWIRE_KERNEL_TABLE("avx2", kVectorLinear, scalar::kAdaquant, kAvx2Planes);

}  // namespace tensorwire
