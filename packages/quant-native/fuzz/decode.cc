// Payloads of arbitrary bytes through every codec's decoder: nothing beside the buffers is read or written, and every
// instruction set decodes as the scalar kernels do.

#include "fuzz_input.h"
#include "sum_chunk.h"

using namespace tensorwire;

namespace {

FuzzCodecs codecs;

// As many elements as `bytes` bytes hold a payload of. The lengths grow with the elements.
size_t elementsIn(ChunkShape shape, size_t bytes) {
  size_t least = 0, most = 8 * bytes + 1;
  while (least < most) {
    const size_t middle = least + (most - least + 1) / 2;
    shape.elements = middle;
    if (shape.payload() <= bytes) least = middle;
    else most = middle - 1;
  }
  return least;
}

// adaquant has several lengths: one that `width` chooses, and that is there.
size_t payloadLength(const ChunkShape& shape, uint8_t width) {
  if (shape.codec != Codec::kAdaquant || shape.elements == 0) return shape.payload();
  const size_t widest = elementBytes(shape.dtype) / 2;
  const size_t widths[] = {widest, widest / 2, widest / 4, 0};
  return shape.scales() + shape.elements * widths[width % 4];
}

// Sums of one weight times the decoded values, and whether they are finite, as every instruction set has them.
void checkSums(const Kernels* const* found, size_t isas, const ChunkShape& shape, const TravelledPayload& payload,
               DType output, double weight, size_t offset) {
  const size_t bytes = shape.elements * elementBytes(output);
  TravelledPayload corrupt = payload;
  corrupt.hash ^= 1;
  const FuzzBytes expected(bytes, 0);
  const Verdict verdict = accumulateChunk(*found[isas - 1], shape, payload, weight, output, expected.data());
  for (size_t i = 0; i < isas; i++) {
    const FuzzBytes sums(bytes, offset);
    if (accumulateChunk(*found[i], shape, payload, weight, output, sums.data()) != verdict) {
      fuzzDefect("the verdict on sums differs", *found[i], shape);
    }
    if (inspectChunk(*found[i], shape, payload, output) != verdict) {
      fuzzDefect("looked through, the verdict differs", *found[i], shape);
    }
    if (verdict == Verdict::kIntact && !fuzzSameElements(output, sums, expected)) {
      fuzzDefect("sums differ", *found[i], shape);
    }
    if (inspectChunk(*found[i], shape, corrupt, output) != Verdict::kCorrupt) {
      fuzzDefect("looked through, another hash is not noticed", *found[i], shape);
    }
  }
}

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
  shape.elements = elementsIn(shape, length - sizeof head);
  const size_t bytes = payloadLength(shape, head.width);
  const size_t offset = head.offset % 8;
  const FuzzBytes payload(input + sizeof head, bytes, offset);
  const DType output = fuzzOutput(head, shape);
  const size_t decoded = shape.elements * elementBytes(output);
  TravelledPayload travelled;
  travelled.data = payload.data();
  travelled.length = bytes;
  travelled.hash = hashBytes(payload.data(), bytes);
  TravelledPayload corrupt = travelled, unverified = travelled;
  corrupt.verifies = true;
  corrupt.hash ^= 1;
  travelled.verifies = true;

  const Kernels* found[kMaxIsas];
  const size_t isas = usableKernels(found);
  const FuzzBytes expected(decoded, 0);
  const Verdict verdict = decodeChunk(*found[isas - 1], shape, travelled, output, expected.data());
  for (size_t i = 0; i < isas; i++) {
    const FuzzBytes target(decoded, offset);
    if (decodeChunk(*found[i], shape, corrupt, output, target.data()) != Verdict::kCorrupt) {
      fuzzDefect("another hash is not noticed", *found[i], shape);
    }
    if (decodeChunk(*found[i], shape, travelled, output, target.data()) != verdict) {
      fuzzDefect("the verdict differs", *found[i], shape);
    }
    if (verdict == Verdict::kIntact && !fuzzSameElements(output, target, expected)) {
      fuzzDefect("what is decoded differs", *found[i], shape);
    }
    const FuzzBytes unseen(decoded, offset);
    if (decodeChunk(*found[i], shape, unverified, output, unseen.data()) != verdict || !target.equals(unseen)) {
      fuzzDefect("without a hash it is decoded otherwise", *found[i], shape);
    }
  }
  if (shape.dtype != DType::kRaw) {
    const double weight = std::isfinite(static_cast<float>(head.weight)) ? head.weight : 0.3;
    checkSums(found, isas, shape, travelled, DType::kF32, weight, offset);
    checkSums(found, isas, shape, travelled, DType::kF64, weight, offset);
  }
  return 0;
}
