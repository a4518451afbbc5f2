// The table of one instruction set, from the names in scope where it is written: the float types F16, BF16, F32 and F64,
// the block formats, and the kernel templates over them. The families at its end are given by name, so that an
// instruction set can take another one's: see linear_scalar.h, adaquant_scalar.h and planes_scalar.h. Sums are each one's own.
#pragma once

#include "kernels.h"
#include "sums.h"

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

#define TENSORWIRE_EACH_BITS(kernel)                                                                    \
  {                                                                                                     \
    TENSORWIRE_EACH_FLOAT_OF(kernel, 2), TENSORWIRE_EACH_FLOAT_OF(kernel, 3),                           \
        TENSORWIRE_EACH_FLOAT_OF(kernel, 4), TENSORWIRE_EACH_FLOAT_OF(kernel, 5),                       \
        TENSORWIRE_EACH_FLOAT_OF(kernel, 6), TENSORWIRE_EACH_FLOAT_OF(kernel, 7),                       \
        TENSORWIRE_EACH_FLOAT_OF(kernel, 8)                                                             \
  }

#define TENSORWIRE_EACH_WIDTH(kernel)                                                                   \
  {                                                                                                     \
    TENSORWIRE_EACH_FLOAT_OF(kernel, uint8_t), TENSORWIRE_EACH_FLOAT_OF(kernel, uint16_t),              \
        TENSORWIRE_EACH_FLOAT_OF(kernel, uint32_t)                                                      \
  }

#define TENSORWIRE_KERNEL_TABLE(isa, linear, adaquant, planes)                                           \
  {                                                                                                      \
    isa, TENSORWIRE_EACH_FLOAT(toFloat16), TENSORWIRE_EACH_FLOAT(toBfloat16),                            \
        {{nullptr, convert<F16, BF16>, convert<F16, F32>, convert<F16, F64>},                            \
         {convert<BF16, F16>, nullptr, convert<BF16, F32>, convert<BF16, F64>},                          \
         {convert<F32, F16>, convert<F32, BF16>, nullptr, convert<F32, F64>},                            \
         {convert<F64, F16>, convert<F64, BF16>, convert<F64, F32>, nullptr}},                           \
        TENSORWIRE_EACH_FORMAT(encodeBlocks), TENSORWIRE_EACH_FORMAT(decodeBlocks), linear, adaquant,    \
        planes, kSums                                                                                    \
  }
