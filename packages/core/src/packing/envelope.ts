import type { Codec, CodecSpec } from "../codec/codec.js";
import type { DType } from "../dtype.js";
import { TensorwireError } from "../errors.js";
import { checkFrame } from "./frame-check.js";
import type { Packer } from "./packer.js";

/** A packed segment's length, in the table at the envelope's beginning. */
const ENTRY_BYTES = 4;

/** A segment travels packed where that saves at least one part in so many: less is not worth the time to unpack it. */
export const SAVES = 64;

/** Lengths of the parts of a payload of `bytes` bytes that are packed each by itself; none of them is empty. */
export function segmentsOf(
  codec: Codec,
  spec: CodecSpec,
  dtype: DType,
  elements: number,
  bytes: number,
): readonly number[] {
  if (codec.segments) return codec.segments(spec, dtype, elements);
  const scales = codec.scaleBytes(spec, dtype, elements);
  return [scales, bytes - scales].filter((length) => length > 0);
}

/**
 * Packs a payload: a table of the segments' packed lengths (u32 each), then the segments in order, each as one zstd
 * frame where that is shorter and as it is where not: then its packed length is its length.
 * @param packed as long as the payload.
 * @returns the envelope's length; 0 where it would not be shorter than the payload, which then travels as it is.
 * @example
 * import { nodePacker } from "@tensorwire/quant-native";
 *
 * const payload = new Uint8Array(10_000);
 * const segments = segmentsOf(none, none.resolve({ name: "none" }), "F32", 2500, payload.length);
 * const packed = new Uint8Array(payload.length);
 * const bytes = packPayload(payload, segments, nodePacker(), packed);
 * const unpacked = new Uint8Array(payload.length);
 * if (bytes > 0) unpackPayload(packed.subarray(0, bytes), segments, nodePacker(), unpacked);
 */
export function packPayload(
  payload: Uint8Array,
  segments: readonly number[],
  packer: Packer,
  packed: Uint8Array,
): number {
  const end = payload.length - 1;
  let at = segments.length * ENTRY_BYTES;
  let begin = 0;
  if (at > end) return 0;
  const table = new DataView(packed.buffer, packed.byteOffset, at);
  for (let i = 0; i < segments.length; i++) {
    const length = segments[i]!;
    const segment = payload.subarray(begin, begin + length);
    const worth = Math.min(length - Math.max(1, Math.floor(length / SAVES)), end - at);
    let bytes = worth > 0 ? packer.pack(segment, packed.subarray(at, at + worth)) : 0;
    if (bytes === 0) {
      if (at + length > end) return 0;
      packed.set(segment, at);
      bytes = length;
    }
    table.setUint32(i * ENTRY_BYTES, bytes, true);
    at += bytes;
    begin += length;
  }
  return at;
}

/**
 * Fills `payload` from its envelope.
 * @param payload exactly as long as all segments.
 * @throws TensorwireError `PAYLOAD_INVALID`.
 */
export function unpackPayload(
  packed: Uint8Array,
  segments: readonly number[],
  packer: Packer,
  payload: Uint8Array,
): void {
  let at = segments.length * ENTRY_BYTES;
  let begin = 0;
  if (packed.length < at) throw invalid(`${packed.length} bytes are no envelope of ${segments.length} parts`);
  const table = new DataView(packed.buffer, packed.byteOffset, at);
  for (let i = 0; i < segments.length; i++) {
    const length = segments[i]!;
    const bytes = table.getUint32(i * ENTRY_BYTES, true);
    if (bytes > length || at + bytes > packed.length) {
      throw invalid(`part ${i} of ${length} bytes is said to take ${bytes}`);
    }
    const source = packed.subarray(at, at + bytes);
    const target = payload.subarray(begin, begin + length);
    if (bytes === length) target.set(source);
    else unpackFrame(source, packer, target);
    at += bytes;
    begin += length;
  }
  if (at !== packed.length) throw invalid(`${packed.length - at} bytes follow the last part`);
}

function unpackFrame(frame: Uint8Array, packer: Packer, target: Uint8Array): void {
  checkFrame(frame, target.length);
  try {
    packer.unpack(frame, target);
  } catch (cause) {
    throw new TensorwireError("PAYLOAD_INVALID", `a packed part cannot be unpacked: ${String(cause)}`, {
      cause,
    });
  }
}

function invalid(what: string): TensorwireError {
  return new TensorwireError("PAYLOAD_INVALID", `the packed payload: ${what}`);
}
