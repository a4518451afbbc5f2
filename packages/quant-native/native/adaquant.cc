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

AdaquantCodes adaquantCodes(const ChunkShape& shape, const uint8_t* payload, uint64_t bytes) {
  AdaquantCodes codes;
  if (shape.elements == 0) {
    codes.valid = true;
    return codes;
  }
  Header header;
  memcpy(&header, payload, kAdaquantHeader);
  codes.width = header.bits == 0 ? 0 : codeBytes(header.bits);
  codes.valid = header.bits <= kMostBits && header.zero == 0 &&
                bytes == kAdaquantHeader + codes.width * shape.elements && std::isfinite(header.low) &&
                std::isfinite(header.norm) && header.norm >= 0;
  if (!codes.valid) return codes;
  // Without codes every element is `low`: -0 is what leaves it as it is, should someone have sent -0.
  codes.levels = codes.width == 0 ? Levels{header.low, -0.0, 1} : Levels{header.low, header.norm, levelsOf(header.bits)};
  return codes;
}

DecodeLevelsKernel adaquantDecoder(const Kernels& kernels, const AdaquantCodes& codes, DType output) {
  return kernels.adaquant.decode[widthIndex(codes.width)][floatIndex(output)];
}

bool adaquantExact(const ChunkShape& shape, DType output) {
  return shape.dtype == DType::kF64 && output == DType::kF64;
}

bool decodeAdaquant(const Kernels& kernels, const ChunkShape& shape, const uint8_t* payload, uint64_t bytes,
                    DType output, uint8_t* target) {
  const AdaquantCodes codes = adaquantCodes(shape, payload, bytes);
  if (!codes.valid || shape.elements == 0) return codes.valid;
  const bool exact = adaquantExact(shape, output);
  const DecodeLevelsKernel decode = adaquantDecoder(kernels, codes, output);
  if (codes.width != 0) {
    decode(payload + kAdaquantHeader, shape.elements, codes.levels, exact, target);
    return true;
  }
  const uint8_t code = 0;
  const size_t step = elementBytes(output), end = shape.elements * step;
  decode(&code, 1, codes.levels, exact, target);
  for (size_t filled = step; filled < end; filled *= 2) {
    memcpy(target + filled, target, filled < end - filled ? filled : end - filled);
  }
  return true;
}

}  // namespace tensorwire
