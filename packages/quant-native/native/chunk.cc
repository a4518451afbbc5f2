#include "chunk.h"

#include "adaquant.h"
#include "envelope.h"
#include "ieee_mode.h"
#include "nested.h"

#include <cstring>

namespace tensorwire {
namespace {

void copy(const uint8_t* source, uint64_t bytes, uint8_t* target) {
  if (bytes > 0) memcpy(target, source, bytes);
}

// The payload is what is copied, or its copy. In portions that are hashed while they are in the first-level cache.
void copyPayload(const uint8_t* source, uint64_t bytes, uint8_t* target, PayloadHash& hash) {
  constexpr uint64_t kPortion = 8192;
  RunningHash running(hash);
  for (uint64_t i = 0; i < bytes; i += kPortion) {
    const uint64_t portion = bytes - i < kPortion ? bytes - i : kPortion;
    memcpy(target + i, source + i, portion);
    running.advance(hash.begin + i + portion);
  }
  running.finish();
}

// The payload, its length and its counts. Its hash as far as the codec writes it in order: scales come first in most
// payloads and are known last.
EncodedChunk encodePayload(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target,
                           PayloadHash& hash) {
  EncodedChunk chunk;
  chunk.bytes = shape.payload();
  chunk.scaleBytes = shape.scales();
  chunk.done = true;
  const size_t elements = shape.elements;
  switch (shape.codec) {
    case Codec::kNone:
      copyPayload(source, shape.sourceBytes(), target, hash);
      break;
    case Codec::kFloat16:
      chunk.counts = kernels.toFloat16[floatIndex(shape.dtype)](source, elements, target, hash);
      break;
    case Codec::kBfloat16:
      chunk.counts = kernels.toBfloat16[floatIndex(shape.dtype)](source, elements, target, hash);
      break;
    case Codec::kLossless:
      if (const size_t width = elementBytes(shape.dtype); width == 1) copyPayload(source, elements, target, hash);
      else kernels.planes.split[planesIndex(width)](source, elements, target, hash);
      break;
    case Codec::kAdaquant: {
      const AdaquantChunk adaquant = encodeAdaquant(kernels, shape, source, target);
      chunk.counts = adaquant.counts;
      chunk.bytes = adaquant.bytes;
      chunk.scaleBytes = adaquant.bytes == 0 ? 0 : shape.scales();
      chunk.declined = adaquant.declined;
      break;
    }
    case Codec::kBlockwise8:
    case Codec::kFloat4:
    case Codec::kNormfloat4:
      if (shape.nested) {
        const NestedChunk nested = encodeNested(kernels, shape, source, target);
        chunk.counts = nested.counts;
        chunk.done = nested.done;
      } else {
        chunk.counts = kernels.encodeBlocks[blockCodecIndex(shape.codec)][floatIndex(shape.dtype)](
            source, elements, shape.block, target, target + shape.scales());
      }
      break;
    default:
      chunk.counts = kernels.linear.encode[shape.linearBits() - 2][floatIndex(shape.dtype)](
          source, elements, shape.block, shape.linear, target, target + shape.offsetsAt(), target + shape.scales());
  }
  return chunk;
}

void decodeHalf(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, DType output,
                uint8_t* target, PayloadHash& hash) {
  const DType stored = shape.stored();
  if (stored == output) copyPayload(payload, shape.payload(), target, hash);
  else kernels.convert[floatIndex(stored)][floatIndex(output)](payload, shape.elements, target, hash);
}

void joinPlanes(const Kernels& kernels, size_t width, const uint8_t* const* planes, size_t elements,
                uint8_t* target) {
  if (width == 1) copy(planes[0], elements, target);
  else kernels.planes.join[planesIndex(width)](planes, elements, target, nullptr);
}

// Elements that are joined at once where they are converted too: planes' bytes stay in the first-level cache.
constexpr size_t kJoined = 1024;

void decodePlanes(const Kernels& kernels, const ChunkShape& shape, const uint8_t* const* planes, DType output,
                  uint8_t* target) {
  const size_t width = elementBytes(shape.dtype);
  if (shape.elements == 0) return;
  if (shape.dtype == output) {
    joinPlanes(kernels, width, planes, shape.elements, target);
    return;
  }
  alignas(64) uint8_t joined[kJoined * 8];
  const uint8_t* at[8];
  for (size_t first = 0; first < shape.elements; first += kJoined) {
    const size_t count = shape.elements - first < kJoined ? shape.elements - first : kJoined;
    for (size_t k = 0; k < width; k++) at[k] = planes[k] + first;
    joinPlanes(kernels, width, at, count, joined);
    // What is joined is no payload: from its end on there is nothing to take in.
    PayloadHash none = hashFrom(joined + sizeof joined);
    kernels.convert[floatIndex(shape.dtype)][floatIndex(output)](joined, count, target + first * elementBytes(output),
                                                                 none);
  }
}

// The hash is advanced as far as the codec reads the payload in order.
Verdict decodePayload(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t bytes,
                      DType output, uint8_t* target, PayloadHash& hash) {
  switch (shape.codec) {
    case Codec::kNone:
    case Codec::kFloat16:
    case Codec::kBfloat16:
      decodeHalf(kernels, shape, payload, output, target, hash);
      return Verdict::kIntact;
    case Codec::kAdaquant:
      return decodeAdaquant(kernels, shape, payload, bytes, output, target) ? Verdict::kIntact : Verdict::kInvalid;
    case Codec::kBlockwise8:
    case Codec::kFloat4:
    case Codec::kNormfloat4:
      if (shape.nested) {
        decodeNested(kernels, shape, payload, output, target, hash);
      } else {
        kernels.decodeBlocks[blockCodecIndex(shape.codec)][floatIndex(output)](
            payload, payload + shape.scales(), shape.elements, shape.block, target, hash);
      }
      return Verdict::kIntact;
    default:
      kernels.linear.decode[shape.linearBits() - 2][floatIndex(output)](
          payload, payload + shape.offsetsAt(), payload + shape.scales(), shape.elements, shape.block, shape.linear,
          target, hash);
      return Verdict::kIntact;
  }
}

// Planes that travelled as they are need not be where the payload would have them: they are verified and joined where
// they lie, in one pass where that can be.
Verdict decodeLossless(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& payload, DType output,
                       uint8_t* target) {
  const size_t width = elementBytes(shape.dtype), elements = shape.elements;
  OpenedEnvelope planes;
  if (payload.packed) {
    planes = openEnvelope(payload.data, payload.length, shape.segments(payload.unpackedLength), payload.unpacked);
    if (!planes.valid) return Verdict::kNoEnvelope;
  } else {
    for (size_t k = 0; k < width; k++) planes.segments[k] = payload.data + k * elements;
  }
  const IeeeMode ieee;
  if (!payload.verifies) {
    decodePlanes(kernels, shape, planes.segments, output, target);
    return Verdict::kIntact;
  }
  if (shape.dtype == output && width > 1 && elements > 0 && elements % xxh64::kStripe == 0) {
    xxh64::Lanes lanes;
    uint64_t four[] = {lanes.a, lanes.b, lanes.c, lanes.d};
    kernels.planes.join[planesIndex(width)](planes.segments, elements, target, four);
    lanes.a = four[0], lanes.b = four[1], lanes.c = four[2], lanes.d = four[3];
    return lanes.digest(nullptr, 0, width * elements) == payload.hash ? Verdict::kIntact : Verdict::kCorrupt;
  }
  Xxh64 state;
  for (size_t k = 0; k < width && elements > 0; k++) state.update(planes.segments[k], elements);
  if (state.digest() != payload.hash) return Verdict::kCorrupt;
  decodePlanes(kernels, shape, planes.segments, output, target);
  return Verdict::kIntact;
}

FrameEffort effortFor(const ChunkShape& shape) {
  return shape.codec == Codec::kNone ? FrameEffort::kAnything : FrameEffort::kWeights;
}

}  // namespace

EncodedChunk encodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target,
                         const PackedTarget& packed) {
  const IeeeMode ieee;
  PayloadHash hash = hashFrom(target);
  EncodedChunk chunk = encodePayload(kernels, shape, source, target, hash);
  chunk.hash = digestOf(hash, target + chunk.bytes);
  const bool travels = chunk.counts.nonFinite == 0 && !chunk.declined && chunk.done;
  if (packed.data != nullptr && travels) {
    chunk.packedBytes =
        packPayload(effortFor(shape), target, shape.segments(chunk.bytes), packed.data, packed.capacity);
  }
  return chunk;
}

Verdict decodeChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& payload, DType output,
                    uint8_t* target) {
  if (shape.codec == Codec::kLossless) return decodeLossless(kernels, shape, payload, output, target);
  const uint8_t* bytes = payload.data;
  uint64_t length = payload.length;
  if (payload.packed) {
    length = payload.unpackedLength;
    bytes = payload.unpacked;
    if (!unpackPayload(payload.data, payload.length, shape.segments(length), payload.unpacked)) {
      return Verdict::kNoEnvelope;
    }
  }
  const IeeeMode ieee;
  PayloadHash found = hashFrom(bytes);
  // From the end on there is nothing to take in.
  if (!payload.verifies) found.at = bytes + length;
  const Verdict verdict = decodePayload(kernels, shape, bytes, length, output, target, found);
  return !payload.verifies || digestOf(found, bytes + length) == payload.hash ? verdict : Verdict::kCorrupt;
}

uint64_t hashBytes(const uint8_t* bytes, size_t length) { return xxh64Of(bytes, length); }

PackedPayload packBytes(const uint8_t* payload, const Segments& segments, const PackedTarget& packed) {
  return {xxh64Of(payload, segments.total()),
          packPayload(FrameEffort::kAnything, payload, segments, packed.data, packed.capacity)};
}

UnpackedPayload unpackBytes(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload) {
  UnpackedPayload unpacked;
  unpacked.valid = unpackPayload(packed, packedBytes, segments, payload);
  if (unpacked.valid) unpacked.hash = xxh64Of(payload, segments.total());
  return unpacked;
}

}  // namespace tensorwire
