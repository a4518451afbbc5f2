// Sources of arbitrary bytes, as floats, through every codec and back: nothing beside the buffers is read or written, the
// source stays as it is, every instruction set makes the payload of the scalar kernels, and what was encoded decodes.

#include "fuzz_input.h"

using namespace tensorwire;

namespace {

FuzzCodecs codecs;

bool sameChunk(const EncodedChunk& a, const EncodedChunk& b) {
  return a.counts.nonFinite == b.counts.nonFinite && a.counts.clamped == b.counts.clamped && a.bytes == b.bytes &&
         a.scaleBytes == b.scaleBytes && a.hash == b.hash && a.packedBytes == b.packedBytes &&
         a.declined == b.declined && a.done == b.done;
}

bool allFinite(const FuzzBytes& f32) {
  for (size_t at = 0; at < f32.length(); at += 4) {
    uint32_t bits;
    memcpy(&bits, f32.data() + at, 4);
    if ((bits & 0x7f800000) == 0x7f800000) return false;
  }
  return true;
}

void decodeAgain(const Kernels& kernels, const ChunkShape& shape, const EncodedChunk& chunk, const FuzzBytes& source,
                 const FuzzBytes& target, const FuzzBytes& packed, DType output) {
  const FuzzBytes unpacked(chunk.bytes, 1);
  TravelledPayload travelled;
  travelled.data = target.data();
  travelled.length = chunk.bytes;
  if (chunk.packedBytes != 0) {
    travelled.data = packed.data();
    travelled.length = chunk.packedBytes;
    travelled.packed = true;
    travelled.unpacked = unpacked.data();
    travelled.unpackedLength = chunk.bytes;
  }
  const FuzzBytes back(shape.elements * elementBytes(output), 3);
  travelled.verifies = true;
  travelled.hash = chunk.hash;
  if (decodeChunk(kernels, shape, travelled, output, back.data()) != Verdict::kIntact) {
    fuzzDefect("what was encoded does not decode", kernels, shape);
  }
  const bool exact = shape.codec == Codec::kNone || shape.codec == Codec::kLossless;
  if (exact && output == shape.dtype && !back.equals(source)) fuzzDefect("it is not exact", kernels, shape);
  if (!exact && output == DType::kF32 && chunk.counts.nonFinite == 0 && !allFinite(back)) {
    fuzzDefect("finite elements come back as NaN or infinity", kernels, shape);
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
  shape.elements = (length - sizeof head) / elementBytes(shape.dtype);
  const size_t offset = head.offset % 8;
  const FuzzBytes source(input + sizeof head, shape.sourceBytes(), offset);
  const FuzzBytes original(input + sizeof head, shape.sourceBytes(), 0);
  const bool packs = (head.flags & kFuzzPacked) != 0;

  const Kernels* found[kMaxIsas];
  const size_t isas = usableKernels(found);
  const FuzzBytes expected(shape.payload(), 0);
  EncodedChunk wanted;
  // The scalar kernels are the last, and the measure of the others.
  for (size_t i = isas; i-- > 0;) {
    const Kernels& kernels = *found[i];
    const FuzzBytes target(shape.payload(), offset);
    const FuzzBytes packed(packs ? shape.payload() : 0, offset);
    const PackedTarget place = packs ? PackedTarget{packed.data(), packed.length()} : PackedTarget{};
    const EncodedChunk chunk = encodeChunk(kernels, shape, source.data(), target.data(), place);
    if (!source.equals(original)) fuzzDefect("the source was written to", kernels, shape);
    if (!shape.canBe(chunk.bytes) && !chunk.declined) fuzzDefect("no payload is that long", kernels, shape);
    if (!chunk.declined && chunk.hash != hashBytes(target.data(), chunk.bytes)) {
      fuzzDefect("the hash is not that of the payload", kernels, shape);
    }
    if (i == isas - 1) {
      wanted = chunk;
      if (chunk.bytes > 0) memcpy(expected.data(), target.data(), chunk.bytes);
    } else if (!sameChunk(chunk, wanted) ||
               (chunk.bytes > 0 && memcmp(target.data(), expected.data(), chunk.bytes) != 0)) {
      fuzzDefect("the payload differs", kernels, shape);
    }
    if (chunk.done && !chunk.declined) {
      decodeAgain(kernels, shape, chunk, source, target, packed, fuzzOutput(head, shape));
    }
  }
  return 0;
}
