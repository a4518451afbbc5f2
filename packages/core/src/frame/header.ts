import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";

/** The version of the frame layout and of the messages. */
export const PROTOCOL_VERSION = 1;

/** First bytes of each direction of a channel, and of an artifact: `\x89TWIRE\r\n` shows a mangled or foreign stream at once. */
export const PREAMBLE = Uint8Array.of(0x89, 0x54, 0x57, 0x49, 0x52, 0x45, 0x0d, 0x0a);

/** Frame types. */
export const FrameType = {
  HELLO: 1,
  MANIFEST: 2,
  WANT: 3,
  DATA: 4,
  END: 5,
  RECEIPT: 6,
  CREDIT: 7,
  ACK: 8,
  PING: 9,
  CANCEL: 10,
  ERROR: 11,
  SOURCE: 12,
  HELD: 13,
  INDEX: 14,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

const TYPE_NAMES = new Map<number, string>(Object.entries(FrameType).map(([name, type]) => [type, name]));

/** The name of a frame type, for messages. */
export function frameName(type: number): string {
  return TYPE_NAMES.get(type) ?? `type ${type}`;
}

/** The frame travels from a model's receiver to its sender. Transfers in both directions share a channel: this tells them apart. */
export const FLAG_TO_SENDER = 1;

/** Bytes of a frame's header. */
export const HEADER_BYTES = 24;
const CHECK_AT = 12;
const CHECKSUM_AT = 16;

/** What every frame begins with. */
export interface FrameHeader {
  /** What kind of frame it is. */
  readonly type: FrameType;
  /** `FLAG_TO_SENDER`, or 0. */
  readonly flags: number;
  /** 0 for frames of the channel itself (HELLO, PING). */
  readonly transfer: number;
  /** Bytes of the body behind the header. */
  readonly bodyBytes: number;
  /** xxh64 of the header's first 16 bytes and of the body but chunk payloads. */
  readonly checksum: bigint;
}

/**
 * The bytes of a whole control frame.
 * @example
 * const body = encodeCredit({ limit: 65_536, finished: 0 });
 * const frame = encodeFrame(FrameType.CREDIT, 1, FLAG_TO_SENDER, body);
 * const header = parseHeader(frame);
 * verifyFrame(frame.subarray(0, HEADER_BYTES), header, body);
 * console.log(frameName(header.type), header.transfer, header.bodyBytes); // CREDIT 1 16
 */
export function encodeFrame(
  type: FrameType,
  transfer: number,
  flags: number,
  body: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + body.length);
  frame.set(body, HEADER_BYTES);
  sealHeader(frame, { type, transfer, flags, bodyBytes: body.length }, frame.subarray(HEADER_BYTES));
  return frame;
}

/**
 * Writes a header into the beginning of `frame`; `covered` is the part of the body that its checksum covers.
 * @example
 * const body = encodeAck({ durable: 3 });
 * const header = new Uint8Array(HEADER_BYTES);
 * sealHeader(header, { type: FrameType.ACK, transfer: 1, flags: FLAG_TO_SENDER, bodyBytes: body.length }, body);
 * console.log(parseHeader(header).bodyBytes); // 8
 */
export function sealHeader(
  frame: Uint8Array,
  header: Omit<FrameHeader, "checksum">,
  covered: Uint8Array,
): void {
  if (header.bodyBytes > 0xffffffff) {
    const frame = `a ${frameName(header.type)} frame of ${header.bodyBytes} bytes`;
    throw new TensorwireError("INTERNAL", `${frame}, where a length is 32 bits`);
  }
  const view = new DataView(frame.buffer, frame.byteOffset, HEADER_BYTES);
  view.setUint8(0, PROTOCOL_VERSION);
  view.setUint8(1, header.type);
  view.setUint16(2, header.flags, true);
  view.setUint32(4, header.transfer, true);
  view.setUint32(8, header.bodyBytes, true);
  view.setUint32(CHECK_AT, headerCheck(frame), true);
  view.setBigUint64(CHECKSUM_AT, xxh64(frame.subarray(0, CHECKSUM_AT), covered), true);
}

// The header has a check of its own: a length that changed on the way would else be waited for, in vain and for ever.
function headerCheck(header: Uint8Array): number {
  return Number(xxh64(header.subarray(0, CHECK_AT)) & 0xffff_ffffn);
}

/** Reads a frame's header. @throws TensorwireError `FRAME_CORRUPT`, `VERSION_UNSUPPORTED` or `PROTOCOL`. */
export function parseHeader(bytes: Uint8Array): FrameHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (view.getUint32(CHECK_AT, true) !== headerCheck(bytes)) {
    throw new TensorwireError(
      "FRAME_CORRUPT",
      "a frame's header does not match its check: bytes changed on the way, or these are no frames; send it again",
    );
  }
  const version = view.getUint8(0);
  if (version !== PROTOCOL_VERSION) {
    throw new TensorwireError(
      "VERSION_UNSUPPORTED",
      `a frame of version ${version}; this side speaks version ${PROTOCOL_VERSION}: update the older side`,
    );
  }
  const type = view.getUint8(1);
  if (!TYPE_NAMES.has(type)) throw new TensorwireError("PROTOCOL", `a frame of unknown type ${type}`);
  const flags = view.getUint16(2, true);
  if (flags & ~FLAG_TO_SENDER) {
    throw new TensorwireError(
      "PROTOCOL",
      `a ${frameName(type)} frame with reserved flags 0x${flags.toString(16)}`,
    );
  }
  return {
    type: type as FrameType,
    flags,
    transfer: view.getUint32(4, true),
    bodyBytes: view.getUint32(8, true),
    checksum: view.getBigUint64(CHECKSUM_AT, true),
  };
}

/** Holds a frame to its checksum. @throws TensorwireError `FRAME_CORRUPT`. `header` is the frame's first 24 bytes. */
export function verifyFrame(header: Uint8Array, parsed: FrameHeader, covered: Uint8Array): void {
  if (xxh64(header.subarray(0, CHECKSUM_AT), covered) !== parsed.checksum) {
    throw new TensorwireError(
      "FRAME_CORRUPT",
      `a ${frameName(parsed.type)} frame does not match its checksum: bytes changed on the way; send it again`,
    );
  }
}
