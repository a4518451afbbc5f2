// Envelopes of arbitrary bytes: whatever their tables and frames say, nothing beside the buffers is read or written, and
// a chunk that travelled packed decodes only if its envelope opens.

#include "fuzz_input.h"

using namespace tensorwire;

namespace {

FuzzCodecs codecs;

// More is not asked of a decompressor that makes a mebibyte of ten bytes.
constexpr size_t kMostElements = 8192;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  codecs.readArguments(*argc, *argv);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t length) {
  FuzzHead head;
  if (length < sizeof head) return -1;
  memcpy(&head, input, sizeof head);
  ChunkShape shape = fuzzShape(head, codecs);
  shape.elements = head.first % kMostElements;
  const size_t bytes = shape.payload();
  const FuzzBytes envelope(input + sizeof head, length - sizeof head, head.offset % 8);
  const Segments segments = shape.segments(bytes);

  const FuzzBytes payload(bytes, 1);
  const UnpackedPayload unpacked = unpackBytes(envelope.data(), envelope.length(), segments, payload.data());
  if (unpacked.valid && unpacked.hash != hashBytes(payload.data(), bytes)) {
    fprintf(stderr, "the hash is not that of the payload\n");
    abort();
  }

  const Kernels* found[kMaxIsas];
  const size_t isas = usableKernels(found);
  const DType output = fuzzOutput(head, shape);
  for (size_t i = 0; i < isas; i++) {
    const FuzzBytes room(bytes, 2);
    const FuzzBytes target(shape.elements * elementBytes(output), 3);
    TravelledPayload travelled;
    travelled.data = envelope.data();
    travelled.length = envelope.length();
    travelled.packed = true;
    travelled.unpacked = room.data();
    travelled.unpackedLength = bytes;
    travelled.verifies = true;
    travelled.hash = unpacked.hash;
    const Verdict verdict = decodeChunk(*found[i], shape, travelled, output, target.data());
    if (unpacked.valid == (verdict == Verdict::kNoEnvelope || verdict == Verdict::kCorrupt)) {
      fuzzDefect("the envelope opens for one and not for the other", *found[i], shape);
    }
  }
  return 0;
}
