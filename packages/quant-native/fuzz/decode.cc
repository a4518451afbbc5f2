// Any bytes as a payload, under every instruction set: nothing is read or written beside the buffers, and all agree.
#include "targets.h"

namespace tensorwire {

void decodeAnything(ChunkInput input) {
  const ChunkShape& shape = input.shape;
  std::vector<uint8_t> payload = input.rest();
  // Of a length that the payload can have; adaquant has several.
  if (!shape.canBe(payload.size())) {
    uint64_t length = shape.payload();
    while (length > payload.size() && shape.codec == Codec::kAdaquant && length > shape.scales()) {
      length = shape.scales() + (length - shape.scales()) / shape.elements / 2 * shape.elements;
    }
    payload = input.take(length);
  }
  const uint64_t hash = hashBytes(payload.data(), payload.size());
  const Isas isas{};
  std::vector<uint8_t> first;
  Verdict verdict = Verdict::kCorrupt;
  for (size_t i = 0; i < isas.count; i++) {
    std::vector<uint8_t> target(shape.elements * elementBytes(input.output));
    TravelledPayload travelled;
    travelled.data = payload.data();
    travelled.length = payload.size();
    const Verdict now = decodeChunk(*isas.kernels[i], shape, travelled, hash, input.output, target.data());
    if (now == Verdict::kCorrupt || now == Verdict::kNoEnvelope) abort();
    if (i > 0 && (now != verdict || (now == Verdict::kIntact && !sameElements(input.output, target, first)))) abort();
    verdict = now;
    first = target;
  }
}

}  // namespace tensorwire
