#include "literals_frame.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#ifdef TENSORWIRE_ZSTD_SOURCES
extern "C" {
#include <common/huf.h>
}
#endif

namespace tensorwire {
namespace {

constexpr size_t kPieces = 16, kPieceBytes = 256;
constexpr size_t kRunBytes = 32;
// An envelope's part that saves less than a 64th travels as it is: see envelope.cc.
constexpr float kNoiseBits = 8.0f * 63 / 64;

}  // namespace

Texture textureOf(const uint8_t* bytes, size_t length) {
  if (length < kShortestSampled) return Texture::kSkewed;
  uint32_t counts[256] = {};
  for (size_t piece = 0; piece < kPieces; piece++) {
    const uint8_t* at = bytes + (length - kPieceBytes) / (kPieces - 1) * piece;
    size_t run = 0;
    for (size_t i = 0; i < kPieceBytes; i++) {
      counts[at[i]]++;
      run = i > 0 && at[i] == at[i - 1] ? run + 1 : 0;
      if (run == kRunBytes) return Texture::kRuns;
    }
  }
  constexpr float kSampled = kPieces * kPieceBytes;
  // In binary32: log2 of binary64 is of glibc 2.29, and Node runs on 2.28.
  float bits = 0;
  for (const uint32_t count : counts) {
    if (count > 0) bits -= static_cast<float>(count) * std::log2(static_cast<float>(count) / kSampled);
  }
  // So few bytes look a little less like noise than they are.
  constexpr float kBias = 255 / (2 * kSampled * 0.693f);
  return bits / kSampled + kBias < kNoiseBits ? Texture::kSkewed : Texture::kNoise;
}

#ifdef TENSORWIRE_ZSTD_SOURCES

namespace {

constexpr uint32_t kMostBits = HUF_TABLELOG_DEFAULT;
constexpr size_t kSymbols = 256;
// RFC 8878, section 3.1.1: a block's content, and the heads of frames, blocks and literals.
constexpr size_t kBlockBytes = 128 * 1024;
constexpr size_t kFrameHead = 9, kBlockHead = 3, kLiteralsHead = 5, kJumpTable = 6;
constexpr size_t kStreams = 4;
// Whatever is shorter than this at the end of a segment is not worth four streams.
constexpr size_t kShortestBlock = 1024;
constexpr size_t kMostTree = 256;

// Of one thread. Codes of pairs of bytes, by the pair as a little-endian number; before that, how often each pair comes.
struct Workspace {
  uint32_t pairs[kSymbols * kSymbols];
  uint8_t streams[kStreams][kBlockBytes / kStreams * kMostBits / 8 + 16];
  uint64_t scratch[HUF_WORKSPACE_SIZE_U64];
};

// A plain pointer: see zstd_frame.cc.
thread_local Workspace* workspace = nullptr;

// A pair's code: its bits, with their number above them.
constexpr uint32_t kLengthShift = 26;
constexpr uint32_t kCodeMask = (1u << kLengthShift) - 1;

struct Code {
  HUF_CREATE_STATIC_CTABLE(table, kSymbols - 1);
  uint32_t counts[kSymbols] = {};
  uint32_t lengths[kSymbols] = {};
  uint32_t words[kSymbols] = {};
  uint8_t tree[kMostTree];
  size_t treeBytes = 0;
  uint64_t bits = 0;  // of all bytes together
};

// By pairs: as many steps as there are bytes would take twice as long.
void countBytes(const uint8_t* bytes, size_t length, Workspace& workspace, uint32_t* counts) {
  memset(workspace.pairs, 0, sizeof workspace.pairs);
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    uint64_t eight;
    memcpy(&eight, bytes + i, sizeof eight);
    workspace.pairs[eight & 0xffff]++;
    workspace.pairs[eight >> 16 & 0xffff]++;
    workspace.pairs[eight >> 32 & 0xffff]++;
    workspace.pairs[eight >> 48]++;
  }
  for (size_t second = 0; second < kSymbols; second++) {
    uint32_t sum = 0;
    const uint32_t* row = workspace.pairs + second * kSymbols;
    for (size_t first = 0; first < kSymbols; first++) {
      sum += row[first];
      counts[first] += row[first];
    }
    counts[second] += sum;
  }
  for (; i < length; i++) counts[bytes[i]]++;
}

// False where there is no code, as of one byte only.
bool buildCode(const uint8_t* bytes, size_t length, Workspace& workspace, Code& code) {
  countBytes(bytes, length, workspace, code.counts);
  uint32_t last = kSymbols - 1;
  while (last > 0 && code.counts[last] == 0) last--;
  const size_t longest = HUF_buildCTable_wksp(code.table, code.counts, last, kMostBits, workspace.scratch,
                                              sizeof workspace.scratch);
  if (HUF_isError(longest) || longest == 0 || longest > kMostBits) return false;
  code.treeBytes = HUF_writeCTable_wksp(code.tree, sizeof code.tree, code.table, last,
                                        static_cast<unsigned>(longest), workspace.scratch, sizeof workspace.scratch);
  if (HUF_isError(code.treeBytes)) return false;

  // Canonical: the longest codes have the lowest numbers, and among those of a length the lowest bytes have.
  uint32_t many[kMostBits + 1] = {}, next[kMostBits + 1] = {};
  for (uint32_t symbol = 0; symbol <= last; symbol++) {
    if (code.counts[symbol] == 0) continue;
    code.lengths[symbol] = HUF_getNbBitsFromCTable(code.table, symbol);
    if (code.lengths[symbol] == 0 || code.lengths[symbol] > longest) return false;
    many[code.lengths[symbol]]++;
    code.bits += uint64_t{code.counts[symbol]} * code.lengths[symbol];
  }
  for (size_t bits = longest, word = 0; bits > 0; bits--) {
    next[bits] = static_cast<uint32_t>(word);
    word = (word + many[bits]) >> 1;
  }
  uint8_t present[kSymbols];
  size_t symbols = 0;
  for (uint32_t symbol = 0; symbol <= last; symbol++) {
    if (code.counts[symbol] == 0) continue;
    code.words[symbol] = next[code.lengths[symbol]]++;
    present[symbols++] = static_cast<uint8_t>(symbol);
  }
  // Streams are read from their end: what comes first is written last.
  for (size_t i = 0; i < symbols; i++) {
    for (size_t j = 0; j < symbols; j++) {
      const uint8_t first = present[i], second = present[j];
      workspace.pairs[first | second << 8] = (code.lengths[first] + code.lengths[second]) << kLengthShift |
                                             code.words[first] << code.lengths[second] | code.words[second];
    }
  }
  return symbols > 1;
}

// One stream on its way, from its last bytes to its first.
class Stream {
 public:
  explicit Stream(uint8_t* target) : target_(target), begin_(target) {}

  static constexpr size_t kStep = 4;

  void byte(uint8_t symbol, const Code& code) {
    put(code.words[symbol], code.lengths[symbol]);
    flush();
  }

  // Four bytes: at most 44 bits, beside the 7 that a flush leaves.
  void step(const uint8_t* bytes, const uint32_t* pairs) {
    uint32_t four;
    memcpy(&four, bytes, sizeof four);
    const uint32_t last = pairs[four >> 16], first = pairs[four & 0xffff], length = last >> kLengthShift;
    // Joined beside the bits that wait: fewer steps then wait for one another.
    put((last & kCodeMask) | uint64_t{first & kCodeMask} << length, length + (first >> kLengthShift));
    flush();
  }

  // Its length.
  size_t finish() {
    put(1, 1);
    flush();
    return static_cast<size_t>(target_ - begin_) + (filled_ > 0);
  }

 private:
  void put(uint64_t word, uint32_t length) {
    bits_ |= word << filled_;
    filled_ += length;
  }

  // Writes eight bytes, of which those that are full count.
  void flush() {
    memcpy(target_, &bits_, sizeof bits_);
    target_ += filled_ >> 3;
    bits_ >>= filled_ & ~7u;
    filled_ &= 7;
  }

  uint8_t* target_;
  const uint8_t* begin_;
  uint64_t bits_ = 0;
  uint32_t filled_ = 0;
};

// Two streams side by side, which wait for nothing of each other's. The second has at most as many bytes.
void encodeTwo(const uint8_t* one, size_t oneBytes, const uint8_t* other, size_t otherBytes, const Code& code,
               const uint32_t* pairs, uint8_t* const* targets, size_t* lengths) {
  Stream a(targets[0]), b(targets[1]);
  // What is more than steps that both have.
  const size_t common = otherBytes - otherBytes % Stream::kStep;
  for (size_t i = oneBytes; i > common; i--) a.byte(one[i - 1], code);
  for (size_t i = otherBytes; i > common; i--) b.byte(other[i - 1], code);
  for (size_t i = common; i > 0; i -= Stream::kStep) {
    a.step(one + i - Stream::kStep, pairs);
    b.step(other + i - Stream::kStep, pairs);
  }
  lengths[0] = a.finish();
  lengths[1] = b.finish();
}

// The low `bytes` bytes of a number.
void store(uint8_t* target, uint64_t number, size_t bytes) { memcpy(target, &number, bytes); }

constexpr uint64_t kRawBlock = 0, kCompressedBlock = 2;
constexpr uint64_t kCompressedLiterals = 2, kTreelessLiterals = 3;

void storeBlockHead(uint8_t* target, bool last, uint64_t type, size_t size) {
  store(target, (last ? 1 : 0) | type << 1 | uint64_t{size} << 3, kBlockHead);
}

size_t rawBlock(const uint8_t* bytes, size_t length, bool last, uint8_t* target) {
  storeBlockHead(target, last, kRawBlock, length);
  memcpy(target + kBlockHead, bytes, length);
  return kBlockHead + length;
}

// A block of literals without sequences, in four streams; 0 where it would not be shorter than as it is, or not fit
// `room`.
size_t codedBlock(const uint8_t* bytes, size_t length, bool last, const Code& code, bool withTree,
                  Workspace& workspace, uint8_t* target, size_t room) {
  const size_t part = (length + kStreams - 1) / kStreams, rest = length - part * (kStreams - 1);
  uint8_t* streams[kStreams];
  for (size_t i = 0; i < kStreams; i++) streams[i] = workspace.streams[i];
  size_t lengths[kStreams];
  encodeTwo(bytes, part, bytes + part, part, code, workspace.pairs, streams, lengths);
  encodeTwo(bytes + 2 * part, part, bytes + 3 * part, rest, code, workspace.pairs, streams + 2, lengths + 2);

  const size_t tree = withTree ? code.treeBytes : 0;
  const size_t coded = tree + kJumpTable + lengths[0] + lengths[1] + lengths[2] + lengths[3];
  const size_t block = kLiteralsHead + coded + 1;
  if (block >= length || kBlockHead + block > room) return 0;
  uint8_t* at = target;
  storeBlockHead(at, last, kCompressedBlock, block);
  at += kBlockHead;
  // Sizes of 18 bits each, and four streams.
  store(at, (withTree ? kCompressedLiterals : kTreelessLiterals) | 3 << 2 | uint64_t{length} << 4 | uint64_t{coded} << 22,
        kLiteralsHead);
  at += kLiteralsHead;
  memcpy(at, code.tree, tree);
  at += tree;
  for (size_t i = 0; i < kStreams - 1; i++, at += 2) store(at, lengths[i], 2);
  for (size_t i = 0; i < kStreams; at += lengths[i], i++) memcpy(at, streams[i], lengths[i]);
  *at++ = 0;  // no sequences
  return static_cast<size_t>(at - target);
}

}  // namespace

bool hasLiteralsFrames() { return true; }

void forgetLiteralsFrames() {
  free(workspace);
  workspace = nullptr;
}

size_t makeLiteralsFrame(const uint8_t* bytes, size_t length, uint8_t* target, size_t capacity) {
  if (workspace == nullptr) workspace = static_cast<Workspace*>(malloc(sizeof(Workspace)));
  if (workspace == nullptr || length > kLongestCoded) return 0;
  Code code;
  if (!buildCode(bytes, length, *workspace, code)) return 0;
  // One tree for the whole segment: most blocks need no more than a few bytes beside their codes. What is not worth its
  // time ends here. It is no bound: a block may travel as it is for the tree that it would have brought, and so may the
  // next.
  const size_t blocks = (length + kBlockBytes - 1) / kBlockBytes;
  const size_t beside = kBlockHead + kLiteralsHead + kJumpTable + kStreams + 1;
  if (kFrameHead + code.treeBytes + code.bits / 8 + blocks * beside + kShortestBlock > capacity) return 0;

  // Its content is its window, and says its size in four bytes.
  store(target, 0xA0FD2FB528, 5);
  store(target + 5, length, 4);
  uint8_t* at = target + kFrameHead;
  bool treeSent = false;
  for (size_t first = 0; first < length; first += kBlockBytes) {
    const size_t n = length - first < kBlockBytes ? length - first : kBlockBytes;
    const bool last = first + n == length;
    const size_t room = capacity - static_cast<size_t>(at - target);
    const size_t coded =
        n < kShortestBlock ? 0 : codedBlock(bytes + first, n, last, code, !treeSent, *workspace, at, room);
    if (coded == 0 && kBlockHead + n > room) return 0;
    treeSent |= coded != 0;
    at += coded != 0 ? coded : rawBlock(bytes + first, n, last, at);
  }
  return static_cast<size_t>(at - target);
}

#else

bool hasLiteralsFrames() { return false; }
void forgetLiteralsFrames() {}
size_t makeLiteralsFrame(const uint8_t*, size_t, uint8_t*, size_t) { return 0; }

#endif

}  // namespace tensorwire
