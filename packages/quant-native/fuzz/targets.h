// The fuzz targets: each aborts, or is ended by a sanitizer, where something is amiss.
#pragma once

#include "chunk_input.h"

namespace tensorwire {

void decodeAnything(ChunkInput input);
void unpackAnything(ChunkInput input);
void encodeAnything(ChunkInput input);

}  // namespace tensorwire
