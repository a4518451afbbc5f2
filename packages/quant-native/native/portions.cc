#include "portions.h"

#include "nested.h"

#include <cstring>

namespace tensorwire {

Portions::Portions(const Kernels& kernels, const ChunkShape& shape, const PayloadPlaces& places, DType output)
    : kernels_(kernels), shape_(shape), places_(places), output_(output) {
  if (shape.codec != Codec::kAdaquant) return;
  levels_ = adaquantCodes(shape, places.bytes, places.length);
  valid_ = levels_.valid;
}

const uint8_t* Portions::decode(size_t first, size_t count, PayloadHash& hash) {
  switch (shape_.codec) {
    case Codec::kNone:
    case Codec::kFloat16:
    case Codec::kBfloat16:
      return decodePlain(shape_.stored(), first, count, hash);
    case Codec::kLossless:
      return decodePlanes(first, count);
    case Codec::kAdaquant:
      return decodeLevels(first, count);
    case Codec::kBlockwise8:
    case Codec::kFloat4:
    case Codec::kNormfloat4:
      return decodeBlocks(first, count, hash);
    default:
      return decodeLinear(first, count, hash);
  }
}

const uint8_t* Portions::decodePlain(DType stored, size_t first, size_t count, PayloadHash& hash) {
  const uint8_t* source = places_.bytes + first * elementBytes(stored);
  if (stored != output_) {
    kernels_.convert[floatIndex(stored)][floatIndex(output_)](source, count, values_, hash);
    return values_;
  }
  RunningHash running(hash);
  running.advance(source + count * elementBytes(stored));
  running.finish();
  return source;
}

const uint8_t* Portions::decodePlanes(size_t first, size_t count) {
  const size_t width = elementBytes(shape_.dtype);
  const uint8_t* at[8];
  for (size_t k = 0; k < width; k++) at[k] = places_.planes[k] + first;
  kernels_.planes.join[planesIndex(width)](at, count, joined_, nullptr);
  if (shape_.dtype == output_) return joined_;
  // What is joined is no payload: from its end on there is nothing to take in.
  PayloadHash none = hashFrom(joined_ + sizeof joined_);
  kernels_.convert[floatIndex(shape_.dtype)][floatIndex(output_)](joined_, count, values_, none);
  return values_;
}

const uint8_t* Portions::decodeBlocks(size_t first, size_t count, PayloadHash& hash) {
  const size_t block = shape_.block, firstBlock = first / block;
  const uint8_t* scales = places_.bytes + 4 * firstBlock;
  float nested[kElements / 32];
  if (shape_.nested) {
    decodeNestedScales(kernels_, shape_, places_.bytes, firstBlock, ceilingOf(count, block), nested, hash);
    scales = reinterpret_cast<const uint8_t*>(nested);
  }
  const uint8_t* codes = places_.bytes + shape_.scales() + (isNibbleCodec(shape_.codec) ? first / 2 : first);
  kernels_.decodeBlocks[blockCodecIndex(shape_.codec)][floatIndex(output_)](scales, codes, count, block, values_, hash);
  return values_;
}

const uint8_t* Portions::decodeLinear(size_t first, size_t count, PayloadHash& hash) {
  const bool shared = shape_.linear.scale != 0;
  const size_t scalesAt = shared ? 0 : first / shape_.block * 4;
  // A block that goes on beyond the portion would be taken for one that ends in it, element by element.
  const size_t block = shape_.block < kElements ? shape_.block : kElements;
  const uint32_t bits = shape_.linearBits();
  const uint8_t *scales = places_.bytes + scalesAt, *codes = places_.bytes + shape_.scales() + first / 8 * bits;
  kernels_.linear.decode[bits - 2][floatIndex(output_)](scales, scales + shape_.offsetsAt(), codes, count, block,
                                                        shape_.linear, values_, hash);
  return values_;
}

const uint8_t* Portions::decodeLevels(size_t first, size_t count) {
  static constexpr uint8_t kNoCodes[kElements] = {};
  const uint8_t* codes =
      levels_.width == 0 ? kNoCodes : places_.bytes + kAdaquantHeader + first * levels_.width;
  adaquantDecoder(kernels_, levels_, output_)(codes, count, levels_.levels, adaquantExact(shape_, output_), values_);
  return values_;
}

}  // namespace tensorwire
