// A payload decoded a portion at a time, for what looks at values once and keeps none: they stay in the first-level cache.
#pragma once

#include "adaquant.h"
#include "chunk_shape.h"

namespace tensorwire {

// Where the bytes of a payload lie: in one piece, or of lossless each plane by itself.
struct PayloadPlaces {
  const uint8_t* bytes = nullptr;
  uint64_t length = 0;
  const uint8_t* planes[8] = {};
};

class Portions {
 public:
  // A multiple of every tile, and a divisor or a multiple of every block.
  static constexpr size_t kElements = 1024;

  // Of elements as F32 or F64. `places` outlives it.
  Portions(const Kernels& kernels, const ChunkShape& shape, const PayloadPlaces& places, DType output);

  // False where what the payload says of itself does not fit its length.
  bool valid() const { return valid_; }

  // The values from `first` on, a multiple of kElements: of as many as a portion has, or as are left. They are where the
  // payload is, or stay till the next call. The hash is advanced as far as the payload was read in order.
  const uint8_t* decode(size_t first, size_t count, PayloadHash& hash);

 private:
  const uint8_t* decodePlain(DType stored, size_t first, size_t count, PayloadHash& hash);
  const uint8_t* decodePlanes(size_t first, size_t count);
  const uint8_t* decodeBlocks(size_t first, size_t count, PayloadHash& hash);
  const uint8_t* decodeLinear(size_t first, size_t count, PayloadHash& hash);
  const uint8_t* decodeLevels(size_t first, size_t count);

  const Kernels& kernels_;
  const ChunkShape& shape_;
  const PayloadPlaces& places_;
  const DType output_;
  AdaquantCodes levels_;
  bool valid_ = true;
  alignas(64) uint8_t values_[kElements * 8];
  // Of lossless, where it is converted too.
  alignas(64) uint8_t joined_[kElements * 8];
};

}  // namespace tensorwire
