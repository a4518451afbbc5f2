#include "envelope.h"

#include <cstring>

namespace tensorwire {
namespace {

// A segment's packed length, in the table at the envelope's beginning.
constexpr uint64_t kEntryBytes = 4;

// A segment travels packed where that saves at least one part in so many: less is not worth the time to unpack it.
constexpr uint64_t kSaves = 64;

}  // namespace

uint64_t packPayload(FrameEffort effort, const uint8_t* payload, const Segments& segments, uint8_t* packed,
                     uint64_t capacity) {
  const uint64_t total = segments.total(), end = capacity < total ? capacity : total - 1;
  uint64_t at = segments.count * kEntryBytes;
  if (total == 0 || at > end) return 0;
  for (size_t i = 0; i < segments.count; i++) {
    const uint64_t length = segments.lengths[i], saving = length / kSaves, room = end - at;
    if (length > UINT32_MAX) return 0;
    const uint64_t most = length - (saving > 1 ? saving : 1), worth = most < room ? most : room;
    uint64_t bytes = worth > 0 ? makeFrame(effort, payload, length, packed + at, worth) : 0;
    if (bytes == 0) {
      if (length > room) return 0;
      memcpy(packed + at, payload, length);
      bytes = length;
    }
    const uint32_t entry = static_cast<uint32_t>(bytes);
    memcpy(packed + i * kEntryBytes, &entry, kEntryBytes);
    at += bytes;
    payload += length;
  }
  return at;
}

OpenedEnvelope openEnvelope(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload) {
  OpenedEnvelope opened;
  uint64_t at = segments.count * kEntryBytes;
  if (packedBytes < at) return opened;
  for (size_t i = 0; i < segments.count; i++) {
    uint32_t bytes;
    memcpy(&bytes, packed + i * kEntryBytes, kEntryBytes);
    const uint64_t length = segments.lengths[i];
    if (bytes > length || bytes > packedBytes - at) return opened;
    opened.segments[i] = bytes == length ? packed + at : payload;
    if (bytes != length && !openFrame(packed + at, bytes, payload, length)) return opened;
    at += bytes;
    payload += length;
  }
  opened.valid = at == packedBytes;
  return opened;
}

bool unpackPayload(const uint8_t* packed, uint64_t packedBytes, const Segments& segments, uint8_t* payload) {
  const OpenedEnvelope opened = openEnvelope(packed, packedBytes, segments, payload);
  if (!opened.valid) return false;
  for (size_t i = 0; i < segments.count; i++) {
    if (opened.segments[i] != payload) memcpy(payload, opened.segments[i], segments.lengths[i]);
    payload += segments.lengths[i];
  }
  return true;
}

}  // namespace tensorwire
