// The table of one instruction set, from the names in scope where it is written: the float types F16, BF16, F32 and F64,
// the block formats, and the kernel templates over them.
#pragma once

#include "kernels.h"

#define TENSORWIRE_EACH_FLOAT(kernel) \
  { kernel<F16>, kernel<BF16>, kernel<F32>, kernel<F64> }

#define TENSORWIRE_EACH_FLOAT_OF(kernel, Format) \
  { kernel<Format, F16>, kernel<Format, BF16>, kernel<Format, F32>, kernel<Format, F64> }

#define TENSORWIRE_EACH_FORMAT(kernel)             \
  {                                                \
    TENSORWIRE_EACH_FLOAT_OF(kernel, Blockwise8),  \
    TENSORWIRE_EACH_FLOAT_OF(kernel, Float4),      \
    TENSORWIRE_EACH_FLOAT_OF(kernel, Normfloat4)   \
  }

#define TENSORWIRE_KERNEL_TABLE(isa)                                                                     \
  {                                                                                                      \
    isa, TENSORWIRE_EACH_FLOAT(toFloat16), TENSORWIRE_EACH_FLOAT(toBfloat16),                            \
        {{nullptr, convert<F16, BF16>, convert<F16, F32>, convert<F16, F64>},                            \
         {convert<BF16, F16>, nullptr, convert<BF16, F32>, convert<BF16, F64>},                          \
         {convert<F32, F16>, convert<F32, BF16>, nullptr, convert<F32, F64>},                            \
         {convert<F64, F16>, convert<F64, BF16>, convert<F64, F32>, nullptr}},                           \
        TENSORWIRE_EACH_FORMAT(encodeBlocks), TENSORWIRE_EACH_FORMAT(decodeBlocks)                       \
  }
