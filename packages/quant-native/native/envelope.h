// Packing: an envelope of zstd frames around a payload. See docs/codecs.md; envelope.ts of @tensorwire/core is the same.
#pragma once

#include "chunk_shape.h"
#include "zstd_frame.h"

namespace tensorwire {

// Writes the envelope of a payload and returns its length; 0 where it would not be shorter, or not fit `capacity`.
uint64_t packPayload(FrameEffort effort, const uint8_t* payload, const Segments& segments, uint8_t* packed,
                     uint64_t capacity);

// Where the segments of an envelope lie once they are undone.
struct OpenedEnvelope {
  bool valid = false;
  const uint8_t* segments[kMaxSegments] = {};
};

// Undoes the frames of an envelope, each to its segment's place in `payload`, which is as long as all segments. Segments
// that travelled as they are stay where they are in `packed`.
OpenedEnvelope openEnvelope(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload);

// The same with all segments in `payload`; false where it is not valid.
bool unpackPayload(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload);

}  // namespace tensorwire
