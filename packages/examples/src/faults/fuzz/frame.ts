import {
  COUNT_BYTES,
  FrameType,
  HEADER_BYTES,
  PREAMBLE,
  PROTOCOL_VERSION,
  RECORD_BYTES,
  xxh64,
} from "@tensorwire/core";

/** A frame in parts, each of which can be changed, and made to bytes again with checksums that are right, or not. */
export interface Frame {
  version: number;
  type: number;
  flags: number;
  transfer: number;
  body: Uint8Array;
  /** What the header says of the body's length, where that is not so. */
  claimedBytes?: number | undefined;
  /** Bits that are turned over in what is sealed: nothing for frames that are to reach the depths of a parser. */
  checkMask?: number | undefined;
  checksumMask?: bigint | undefined;
  /** Frames heard from the other end before this one went out, heartbeats and credit not counted. */
  after: number;
}

const CHECK_AT = 12;
const CHECKSUM_AT = 16;

/** The frame at the beginning of `bytes`. */
function parseFrame(bytes: Uint8Array, after: number): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const bodyBytes = view.getUint32(8, true);
  return {
    version: view.getUint8(0),
    type: view.getUint8(1),
    flags: view.getUint16(2, true),
    transfer: view.getUint32(4, true),
    // A copy, which `slice` of a Buffer is not.
    body: new Uint8Array(bytes.subarray(HEADER_BYTES, HEADER_BYTES + bodyBytes)),
    after,
  };
}

/** Every frame of a stream, or of a part of one; a preamble before them is passed over, and what follows an INDEX. */
export function parseFrames(bytes: Uint8Array, after = 0): Frame[] {
  const frames: Frame[] = [];
  for (let at = bytes[0] === PREAMBLE[0] ? PREAMBLE.length : 0; at < bytes.length; ) {
    const frame = parseFrame(bytes.subarray(at), after);
    frames.push(frame);
    if (frame.type === FrameType.INDEX) break;
    at += HEADER_BYTES + frame.body.length;
  }
  return frames;
}

export function frameBytes(frame: Frame): Uint8Array {
  const { body, type } = frame;
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  bytes.set(body, HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, frame.version);
  view.setUint8(1, type);
  view.setUint16(2, frame.flags, true);
  view.setUint32(4, frame.transfer, true);
  view.setUint32(8, frame.claimedBytes ?? body.length, true);
  const check = Number(xxh64(bytes.subarray(0, CHECK_AT)) & 0xffff_ffffn);
  view.setUint32(CHECK_AT, (check ^ (frame.checkMask ?? 0)) >>> 0, true);
  const covered = type === FrameType.DATA ? body.subarray(0, tableBytes(body)) : body;
  const checksum = xxh64(bytes.subarray(0, CHECKSUM_AT), covered);
  view.setBigUint64(CHECKSUM_AT, checksum ^ (frame.checksumMask ?? 0n), true);
  return bytes;
}

/** Of a DATA frame, what its checksum covers, as far as it is there. */
export function tableBytes(body: Uint8Array): number {
  if (body.length < COUNT_BYTES) return body.length;
  const count = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
  return Math.min(body.length, COUNT_BYTES + count * RECORD_BYTES);
}

export const newFrame = (type: number, body: Uint8Array, after: number, transfer = 1): Frame => ({
  version: PROTOCOL_VERSION,
  type,
  flags: 0,
  transfer,
  body,
  after,
});

/** Types that the pace of a machine decides about: no script waits for them. */
const UNCOUNTED: ReadonlySet<number> = new Set([FrameType.PING, FrameType.CREDIT, FrameType.ACK]);

export const isCounted = (type: number): boolean => !UNCOUNTED.has(type);
