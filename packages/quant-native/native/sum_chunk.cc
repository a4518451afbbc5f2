#include "sum_chunk.h"

#include "envelope.h"
#include "float_bits.h"
#include "ieee_mode.h"
#include "nested.h"
#include "portions.h"

#include <cmath>
#include <cstring>

namespace tensorwire {
namespace {

// A payload in its places, with as much of its hash as is known.
class Payload {
 public:
  Payload(const ChunkShape& shape, const TravelledPayload& travelled) : shape_(shape), travelled_(travelled) {
    places.bytes = travelled.data;
    places.length = travelled.length;
    hash = hashFrom(places.bytes);
    if (travelled.packed) {
      places.bytes = travelled.unpacked;
      places.length = travelled.unpackedLength;
      opened = open();
      hash = hashFrom(places.bytes);
    } else if (shape.codec == Codec::kLossless) {
      for (size_t k = 0; k < width(); k++) places.planes[k] = places.bytes + k * shape.elements;
    }
    // From its end on there is nothing to take in.
    if (!travelled.verifies || shape.codec == Codec::kLossless) hash.at = places.bytes + places.length;
  }

  bool intact() {
    if (!travelled_.verifies) return true;
    if (shape_.codec != Codec::kLossless) return digestOf(hash, places.bytes + places.length) == travelled_.hash;
    Xxh64 planes;
    for (size_t k = 0; k < width() && shape_.elements > 0; k++) planes.update(places.planes[k], shape_.elements);
    return planes.digest() == travelled_.hash;
  }

  PayloadPlaces places;
  PayloadHash hash;
  bool opened = true;

 private:
  size_t width() const { return elementBytes(shape_.dtype); }

  bool open() {
    const Segments segments = shape_.segments(travelled_.unpackedLength);
    if (shape_.codec != Codec::kLossless) {
      return unpackPayload(travelled_.data, travelled_.length, segments, travelled_.unpacked);
    }
    // Planes that travelled as they are stay where they lie.
    const OpenedEnvelope envelope = openEnvelope(travelled_.data, travelled_.length, segments, travelled_.unpacked);
    for (size_t k = 0; k < width(); k++) places.planes[k] = envelope.segments[k];
    return envelope.valid;
  }

  const ChunkShape& shape_;
  const TravelledPayload& travelled_;
};

Verdict verdictOf(Payload& payload, bool valid, bool finite) {
  if (!payload.intact()) return Verdict::kCorrupt;
  return !valid ? Verdict::kInvalid : finite ? Verdict::kIntact : Verdict::kNotFinite;
}

// What values are decoded to on their way to `output`: nothing but F64 itself has values that F32 does not.
DType decodedDType(const ChunkShape& shape, DType output) {
  const bool exact = shape.codec == Codec::kNone || shape.codec == Codec::kLossless || shape.codec == Codec::kAdaquant;
  return exact && shape.dtype == DType::kF64 ? output : DType::kF32;
}

AddKernel addKernel(const SumKernels& sums, DType decoded, DType output) {
  return decoded == DType::kF64 ? sums.doubles : output == DType::kF64 ? sums.singlesWidened : sums.singles;
}

// No level of a block codec is beyond 1: its values are finite exactly where their block's scale is.
bool finiteScales(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, PayloadHash& hash) {
  const FiniteKernel finite = kernels.sums.finite[floatIndex(DType::kF32)];
  const size_t blocks = shape.blocks();
  if (!shape.nested) return finite(payload, blocks);
  constexpr size_t kScales = 4 * kNestedBlock;
  float scales[kScales];
  for (size_t first = 0; first < blocks; first += kScales) {
    const size_t count = blocks - first < kScales ? blocks - first : kScales;
    decodeNestedScales(kernels, shape, payload, first, count, scales, hash);
    if (!finite(reinterpret_cast<const uint8_t*>(scales), count)) return false;
  }
  return true;
}

// Whether the values of every code there is are finite, from the outermost ones. Where not, those that are not may not
// occur.
bool finiteLevels(const ChunkShape& shape, const uint8_t* payload) {
  const bool shared = shape.linear.scale != 0, affine = shape.linear.affine;
  const int32_t codes = 1 << shape.linearBits(), least = affine ? 0 : 1 - codes / 2;
  const size_t blocks = shared ? 1 : shape.blocks();
  float scale = shape.linear.scale, offset = 0;
  for (size_t b = 0; b < blocks; b++) {
    if (!shared) memcpy(&scale, payload + 4 * b, sizeof scale);
    if (affine) memcpy(&offset, payload + shape.offsetsAt() + 4 * b, sizeof offset);
    const float low = static_cast<float>(least) * scale, high = static_cast<float>(least + codes - 1) * scale;
    if (isNonFinite(low + offset) || isNonFinite(high + offset)) return false;
  }
  return true;
}

bool finiteValues(const Kernels& kernels, const ChunkShape& shape, Portions& portions, DType decoded,
                  PayloadHash& hash) {
  const FiniteKernel finite = kernels.sums.finite[floatIndex(decoded)];
  bool all = true;
  for (size_t first = 0; first < shape.elements; first += Portions::kElements) {
    const size_t left = shape.elements - first, count = left < Portions::kElements ? left : Portions::kElements;
    if (!finite(portions.decode(first, count, hash), count)) all = false;
  }
  return all;
}

}  // namespace

Verdict accumulateChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& travelled, double weight,
                        DType output, uint8_t* sums) {
  Payload payload(shape, travelled);
  if (!payload.opened) return Verdict::kNoEnvelope;
  const IeeeMode ieee;
  const DType decoded = decodedDType(shape, output);
  Portions portions(kernels, shape, payload.places, decoded);
  const AddKernel add = addKernel(kernels.sums, decoded, output);
  bool finite = true;
  for (size_t first = 0; portions.valid() && first < shape.elements; first += Portions::kElements) {
    const size_t left = shape.elements - first, count = left < Portions::kElements ? left : Portions::kElements;
    const uint8_t* values = portions.decode(first, count, payload.hash);
    if (!add(values, count, weight, sums + first * elementBytes(output))) finite = false;
  }
  return verdictOf(payload, portions.valid(), finite);
}

Verdict inspectChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& travelled, DType output) {
  Payload payload(shape, travelled);
  if (!payload.opened) return Verdict::kNoEnvelope;
  const IeeeMode ieee;
  if (isBlockCodec(shape.codec)) {
    const bool finite = finiteScales(kernels, shape, payload.places.bytes, payload.hash);
    return verdictOf(payload, true, finite);
  }
  if (isLinearCodec(shape.codec) && finiteLevels(shape, payload.places.bytes)) return verdictOf(payload, true, true);
  const DType decoded = decodedDType(shape, output);
  Portions portions(kernels, shape, payload.places, decoded);
  const bool finite = portions.valid() && finiteValues(kernels, shape, portions, decoded, payload.hash);
  return verdictOf(payload, portions.valid(), finite);
}

}  // namespace tensorwire
