// A chunk through a codec: kernels, checksum and packing in one call. Pure functions of bytes; no JavaScript here.
#pragma once

#include "chunk_shape.h"

namespace tensorwire {

// Where a packed payload goes.
struct PackedTarget {
  uint8_t* data = nullptr;  // nullptr where nothing is to be packed
  uint64_t capacity = 0;
};

struct EncodedChunk {
  Counts counts;
  uint64_t bytes = 0;
  uint64_t scaleBytes = 0;
  uint64_t hash = 0;
  uint64_t packedBytes = 0;
  bool declined = false;
  bool done = false;  // false where there was no memory
};

// Writes at most shape.payload() bytes to `target`, hashes them, and packs them where that is asked for and they travel.
EncodedChunk encodeChunk(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target,
                         const PackedTarget& packed);

// What came of a payload; the numbers are known to src/native-backend.ts.
enum class Verdict : uint32_t {
  kIntact = 0,
  kCorrupt = 1,   // its hash is another
  kInvalid = 2,   // what it says of itself does not fit its length
  kNoEnvelope = 3,  // it cannot be unpacked
  kNotFinite = 4,   // of sums: a value is infinite or NaN
};

struct TravelledPayload {
  const uint8_t* data = nullptr;
  uint64_t length = 0;
  // What its hash must be, unpacked, where that was not verified before.
  bool verifies = false;
  uint64_t hash = 0;
  // Where it travelled packed: its length unpacked, and room for that.
  uint8_t* unpacked = nullptr;
  uint64_t unpackedLength = 0;
  bool packed = false;
};

// Writes the elements as `output` to `target` if the payload has its hash. The target means nothing otherwise.
Verdict decodeChunk(const Kernels& kernels, const ChunkShape& shape, const TravelledPayload& payload, DType output,
                    uint8_t* target);

uint64_t hashBytes(const uint8_t* bytes, size_t length);

struct PackedPayload {
  uint64_t hash = 0;
  uint64_t packedBytes = 0;
};

// A payload of any codec, from its segments alone.
PackedPayload packBytes(const uint8_t* payload, const Segments& segments, const PackedTarget& packed);

struct UnpackedPayload {
  uint64_t hash = 0;
  bool valid = false;
};

// Fills `payload`, as long as all segments.
UnpackedPayload unpackBytes(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload);

}  // namespace tensorwire
