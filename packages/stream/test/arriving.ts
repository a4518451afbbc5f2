import {
  byteLength,
  type CodecRegistry,
  type CodecSpec,
  chunkElements,
  defaultCodecs,
  elementCount,
  type Tensor,
  xxh64,
} from "@tensorwire/core";

/** Codecs that look at a chunk as one; of all others, chunk by chunk and whole are the same. */
const ofChunks = ({ name, nested }: CodecSpec): boolean =>
  nested === true || name === "adaquant" || name === "declining";

/** What arrives of a tensor: what the reference codec makes of it whole, or, where it looks at chunks, of each chunk. */
export function arriving(
  { name, dtype, shape, data }: Tensor,
  spec: CodecSpec,
  chunkBytes: number,
  registry: CodecRegistry = defaultCodecs,
): Uint8Array {
  const source = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const codec = registry.get(spec.name);
  const elements = elementCount(shape);
  if (!codec.supports(dtype)) return source;
  if (!codec.packs && codec.payloadBytes(spec, dtype, elements) >= source.length) return source;
  const decoded = source.slice();
  const run = ofChunks(spec) ? chunkElements(dtype, chunkBytes) : elements;
  const tensor = xxh64(new TextEncoder().encode(name));
  for (let first = 0; first < elements; first += run) {
    const count = Math.min(run, elements - first);
    const begin = byteLength(dtype, first);
    const part = source.subarray(begin, begin + byteLength(dtype, count));
    const payload = new Uint8Array(codec.payloadBytes(spec, dtype, count));
    const { bytes, declined, nonFinite } = codec.encode(spec, dtype, count, part, payload, { tensor, first });
    if (declined || nonFinite > 0) continue;
    codec.decode(spec, dtype, count, payload.subarray(0, bytes), dtype, decoded.subarray(begin));
  }
  return decoded;
}
