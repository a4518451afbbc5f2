// Any bytes as an envelope: refused, or opened to a payload that is then decoded like any other.
#include "targets.h"

namespace tensorwire {

void unpackAnything(ChunkInput input) {
  const ChunkShape& shape = input.shape;
  std::vector<uint8_t> envelope = input.rest(), payload(shape.payload());
  const Segments segments = shape.segments(payload.size());
  const UnpackedPayload unpacked = unpackBytes(envelope.data(), envelope.size(), segments, payload.data());

  TravelledPayload travelled;
  std::vector<uint8_t> room(payload.size()), target(shape.elements * elementBytes(input.output));
  travelled.data = envelope.data();
  travelled.length = envelope.size();
  travelled.packed = true;
  travelled.unpacked = room.data();
  travelled.unpackedLength = room.size();
  const Verdict verdict =
      decodeChunk(kScalarKernels, shape, travelled, unpacked.hash, input.output, target.data());
  if (unpacked.valid != (verdict != Verdict::kNoEnvelope)) abort();
  if (unpacked.valid && verdict == Verdict::kCorrupt) abort();
}

}  // namespace tensorwire
