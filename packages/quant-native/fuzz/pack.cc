// Bytes of any length and kind into one frame and back: a frame never goes beyond the room that it has, and what comes of
// it is what went in. The body is repeated, with a change each time or without, to lengths of several blocks.

#include "fuzz_input.h"
#include "zstd_frame.h"

using namespace tensorwire;

namespace {

constexpr size_t kMostBytes = 300'000;

void check(FrameEffort effort, const FuzzBytes& bytes, size_t capacity) {
  const FuzzBytes frame(capacity, 1);
  const size_t written = makeFrame(effort, bytes.data(), bytes.length(), frame.data(), capacity);
  if (written == 0) return;
  const FuzzBytes sent(frame.data(), written, 3), back(bytes.length(), 1);
  if (written > capacity || !openFrame(sent.data(), written, back.data(), back.length()) || !back.equals(bytes)) {
    fprintf(stderr, "a frame of %zu bytes does not open to what it was made of\n", bytes.length());
    abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t length) {
  FuzzHead head;
  if (length <= sizeof head) return -1;
  memcpy(&head, input, sizeof head);
  const uint8_t* body = input + sizeof head;
  const size_t period = length - sizeof head;
  const FuzzBytes bytes(head.first % kMostBytes, head.offset % 8);
  for (size_t i = 0; i < bytes.length(); i++) {
    bytes.data()[i] = static_cast<uint8_t>(body[i % period] ^ (i / period & head.flags));
  }
  // With room for all, as much as an envelope leaves, and any.
  const size_t capacities[] = {bytes.length() + 64, bytes.length() - bytes.length() / 64,
                               head.seed % (bytes.length() + 1)};
  for (const size_t capacity : capacities) {
    check(FrameEffort::kWeights, bytes, capacity);
    check(FrameEffort::kAnything, bytes, capacity);
  }
  return 0;
}
