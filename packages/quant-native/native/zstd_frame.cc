#include "zstd_frame.h"

#include "literals_frame.h"

#ifdef TENSORWIRE_ZSTD

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

namespace tensorwire {
namespace {

// A context holds tables that are dear to make: one a thread. Plain pointers, since what has a destructor would take the
// C++ library (see c_heap.h): libuv's threads live as long as the process, as the addon does once it is loaded (see
// build-addon.mjs), and others are told when to forget.
thread_local ZSTD_CCtx* compressor = nullptr;
thread_local ZSTD_DCtx* decompressor = nullptr;

// A frame of weights is Huffman codes (literals) all over. What remains of the search for matches finds runs: its table has
// 64 places, and it steps over 100 bytes where it found nothing, so that it takes no time.
constexpr int kWeightsLevel = -100, kWeightsHashLog = 6;
constexpr int kAnythingLevel = 1;

bool prepare(ZSTD_CCtx* context, FrameEffort effort) {
  const bool weights = effort == FrameEffort::kWeights;
  const struct {
    ZSTD_cParameter parameter;
    int value;
  } parameters[] = {
      {ZSTD_c_compressionLevel, weights ? kWeightsLevel : kAnythingLevel},
      {ZSTD_c_hashLog, weights ? kWeightsHashLog : 0},
      // As it comes, literals stay as they are below level 0.
      {ZSTD_c_literalCompressionMode, weights ? ZSTD_ps_enable : ZSTD_ps_auto},
      {ZSTD_c_contentSizeFlag, 1},
      {ZSTD_c_checksumFlag, 0},
  };
  ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
  for (const auto& [parameter, value] : parameters) {
    if (ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value))) return false;
  }
  return true;
}

constexpr unsigned long long kSmallestWindow = 1024;

}  // namespace

bool hasZstd() { return true; }

size_t makeFrame(FrameEffort effort, const uint8_t* bytes, size_t length, uint8_t* target, size_t capacity) {
  if (effort == FrameEffort::kWeights && length >= kShortestSampled) {
    const Texture texture = textureOf(bytes, length);
    if (texture == Texture::kNoise) return 0;
    if (texture == Texture::kSkewed && hasLiteralsFrames() && length <= kLongestCoded) {
      return makeLiteralsFrame(bytes, length, target, capacity);
    }
  }
  if (compressor == nullptr) compressor = ZSTD_createCCtx();
  if (compressor == nullptr || !prepare(compressor, effort)) return 0;
  const size_t written = ZSTD_compress2(compressor, target, capacity, bytes, length);
  return ZSTD_isError(written) ? 0 : written;
}

bool openFrame(const uint8_t* frame, size_t frameLength, uint8_t* target, size_t length) {
  // Bits 0 and 1 of the descriptor say that a dictionary's number follows, be it 0.
  constexpr size_t kDescriptor = 4;
  if (frameLength <= kDescriptor || (frame[kDescriptor] & 3) != 0) return false;
  ZSTD_frameHeader header;
  if (ZSTD_getFrameHeader(&header, frame, frameLength) != 0 || header.frameType != ZSTD_frame) return false;
  const unsigned long long most = 2 * (length > kSmallestWindow ? length : kSmallestWindow);
  if (header.frameContentSize != length || header.windowSize > most) return false;
  // A second frame behind it would be decompressed too, and others would refuse it.
  if (ZSTD_findFrameCompressedSize(frame, frameLength) != frameLength) return false;
  if (decompressor == nullptr) decompressor = ZSTD_createDCtx();
  return decompressor != nullptr && ZSTD_decompressDCtx(decompressor, target, length, frame, frameLength) == length;
}

void forgetFrames() {
  ZSTD_freeCCtx(compressor);
  ZSTD_freeDCtx(decompressor);
  compressor = nullptr;
  decompressor = nullptr;
  forgetLiteralsFrames();
}

}  // namespace tensorwire

#else

namespace tensorwire {

bool hasZstd() { return false; }
size_t makeFrame(FrameEffort, const uint8_t*, size_t, uint8_t*, size_t) { return 0; }
bool openFrame(const uint8_t*, size_t, uint8_t*, size_t) { return false; }
void forgetFrames() {}

}  // namespace tensorwire

#endif
