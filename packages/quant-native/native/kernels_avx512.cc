// The codecs on sixteen floats at a time: AVX-512 with its extensions F, BW, DQ, VL and VBMI.

#include "adaquant_scalar.h"
#include "block_formats_avx512.h"
#include "code_bits_avx512.h"
#include "kernel_table.h"
#include "linear_kernels.h"
#include "planes_avx2.h"
#include "vector_kernels.h"

namespace tensorwire {

const Kernels kAvx512Kernels = TENSORWIRE_KERNEL_TABLE("avx512", kVectorLinear, scalar::kAdaquant, kAvx2Planes);

}  // namespace tensorwire
