// Any bytes as elements, under every instruction set: the same payload from each, that comes back from its envelope.
#include "targets.h"

namespace tensorwire {

void encodeAnything(ChunkInput input) {
  const ChunkShape& shape = input.shape;
  const std::vector<uint8_t> source = input.take(shape.sourceBytes());
  const Isas isas{};
  std::vector<uint8_t> first;
  EncodedChunk expected;
  for (size_t i = 0; i < isas.count; i++) {
    std::vector<uint8_t> payload(shape.payload()), packed(shape.payload()), unpacked(shape.payload());
    EncodedChunk chunk =
        encodeChunk(*isas.kernels[i], shape, source.data(), payload.data(), {packed.data(), packed.size()});
    if (!chunk.done || chunk.bytes > payload.size() || chunk.hash != hashBytes(payload.data(), chunk.bytes)) abort();
    payload.resize(chunk.bytes);
    if (i > 0 && (payload != first || chunk.declined != expected.declined ||
                  chunk.counts.nonFinite != expected.counts.nonFinite ||
                  chunk.counts.clamped != expected.counts.clamped)) {
      abort();
    }
    first = payload;
    expected = chunk;
    if (chunk.packedBytes == 0) continue;
    packed.resize(chunk.packedBytes);
    unpacked.resize(chunk.bytes);
    const UnpackedPayload back =
        unpackBytes(packed.data(), packed.size(), shape.segments(chunk.bytes), unpacked.data());
    if (!back.valid || back.hash != chunk.hash || unpacked != payload) abort();
  }
}

}  // namespace tensorwire
