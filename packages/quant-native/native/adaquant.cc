#include "adaquant.h"

#include <cmath>
#include <cstring>

namespace tensorwire {
namespace {

struct Header {
  double low;
  double norm;
  uint32_t bits;
  uint32_t zero;
};
static_assert(sizeof(Header) == kAdaquantHeader, "the header is as the format has it");

constexpr double kLogOf4 = 1.3862943611198906;
constexpr uint32_t kMostBits = 32;

// Bits of a code for a range of `norm`; more than kMostBits where no code has as many.
uint32_t bitsFor(double norm, size_t elementBits, double weight) {
  const double t = norm * static_cast<double>(elementBits) * kLogOf4 / weight;
  const double root = std::sqrt(t), levels = std::ceil(root > 1 ? root : 1);
  uint32_t bits = 1;
  while (bits <= kMostBits && levels > static_cast<double>(uint64_t{1} << bits)) bits++;
  return bits;
}

size_t codeBytes(uint32_t bits) { return bits <= 8 ? 1 : bits <= 16 ? 2 : 4; }
// Index of the kernels for codes of this many bytes.
size_t widthIndex(size_t bytes) { return bytes / 2; }

double levelsOf(uint32_t bits) { return static_cast<double>((uint64_t{1} << bits) - 1); }

}  // namespace

AdaquantChunk encodeAdaquant(const Kernels& kernels, const ChunkShape& shape, const uint8_t* source, uint8_t* target) {
  AdaquantChunk chunk;
  if (shape.elements == 0) return chunk;
  const uint32_t from = floatIndex(shape.dtype);
  const Range range = kernels.adaquant.range[from](source, shape.elements);
  chunk.counts.nonFinite = range.nonFinite;
  Header header = {range.low, range.high - range.low, 0, 0};
  if (header.norm != 0) {
    const size_t elementBits = 8 * elementBytes(shape.dtype);
    header.bits = bitsFor(header.norm, elementBits, shape.weight);
    const size_t width = codeBytes(header.bits);
    if (header.bits > kMostBits || 8 * width >= elementBits || (width == 4 && shape.dtype != DType::kF64)) {
      chunk.declined = true;
      return chunk;
    }
    const Levels levels = {header.low, header.norm, levelsOf(header.bits)};
    kernels.adaquant.encode[widthIndex(width)][from](source, shape.elements, levels, target + kAdaquantHeader);
    chunk.bytes = width * shape.elements;
  } else {
    header.norm = 0;  // never -0
  }
  memcpy(target, &header, kAdaquantHeader);
  chunk.bytes += kAdaquantHeader;
  return chunk;
}

bool decodeAdaquant(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t bytes,
                    DType output, uint8_t* target) {
  if (shape.elements == 0) return true;
  Header header;
  memcpy(&header, payload, kAdaquantHeader);
  const uint64_t width = header.bits == 0 ? 0 : codeBytes(header.bits);
  const bool valid = header.bits <= kMostBits && header.zero == 0 && bytes == kAdaquantHeader + width * shape.elements &&
                     std::isfinite(header.low) && std::isfinite(header.norm) && header.norm >= 0;
  if (!valid) return false;
  const bool exact = shape.dtype == DType::kF64 && output == DType::kF64;
  const uint32_t to = floatIndex(output);
  if (width != 0) {
    const Levels levels = {header.low, header.norm, levelsOf(header.bits)};
    kernels.adaquant.decode[widthIndex(width)][to](payload + kAdaquantHeader, shape.elements, levels, exact, target);
    return true;
  }
  // Every element is `low`: -0 is what leaves it as it is, should someone have sent -0.
  const uint8_t code = 0;
  const size_t step = elementBytes(output), end = shape.elements * step;
  kernels.adaquant.decode[0][to](&code, 1, {header.low, -0.0, 1}, exact, target);
  for (size_t filled = step; filled < end; filled *= 2) {
    memcpy(target + filled, target, filled < end - filled ? filled : end - filled);
  }
  return true;
}

}  // namespace tensorwire
