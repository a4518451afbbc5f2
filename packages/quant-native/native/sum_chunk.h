// A chunk whose values are summed, or looked through, and not kept. Pure functions of bytes; no JavaScript here.
#pragma once

#include "chunk.h"

namespace tensorwire {

// Adds weight × value to sums of `output`, F32 or F64. kNotFinite where a value is infinite or NaN; the sums mean something
// only where it is kIntact.
Verdict accumulateChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& payload, double weight,
                        DType output, uint8_t* sums);

// kNotFinite where a value is infinite or NaN as `output`, F32 or F64.
Verdict inspectChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& payload, DType output);

}  // namespace tensorwire
