import { TensorwireError } from "../errors.js";
import { xxh64 } from "../hash.js";
import { HEADER_BYTES, PREAMBLE } from "./header.js";

/** Bytes of an artifact's footer, its last ones. */
export const FOOTER_BYTES = 48;

/** `\x89TWEND\r\n`: ends an artifact that has an index. */
const MAGIC = Uint8Array.of(0x89, 0x54, 0x57, 0x45, 0x4e, 0x44, 0x0d, 0x0a);
const VERSION = 1;
const VERSION_AT = 24;
const RESERVED_AT = 28;
const CHECKSUM_AT = 32;
const MAGIC_AT = 40;

/** Where the parts of an artifact lie: what a reader begins with that does not want to read all of it. */
export interface Footer {
  /** Bytes of preamble, HELLO and MANIFEST: where the first DATA frame begins, or END. */
  readonly headBytes: number;
  /** Where END begins; INDEX follows it, and ends where the footer begins. */
  readonly endPosition: number;
  /** Bytes of the whole file, the footer's own among them. */
  readonly fileBytes: number;
}

/**
 * The last bytes of an artifact: where its index is.
 * @example
 * const footer = encodeFooter({ headBytes: 300, endPosition: 4000, fileBytes: 5000 });
 * console.log(parseFooter(footer, 5000)?.endPosition); // 4000
 */
export function encodeFooter({ headBytes, endPosition, fileBytes }: Footer): Uint8Array {
  const footer = new Uint8Array(FOOTER_BYTES);
  const view = new DataView(footer.buffer);
  view.setBigUint64(0, BigInt(headBytes), true);
  view.setBigUint64(8, BigInt(endPosition), true);
  view.setBigUint64(16, BigInt(fileBytes), true);
  view.setUint32(VERSION_AT, VERSION, true);
  view.setBigUint64(CHECKSUM_AT, xxh64(footer.subarray(0, CHECKSUM_AT)), true);
  footer.set(MAGIC, MAGIC_AT);
  return footer;
}

/**
 * Reads what `encodeFooter` wrote.
 * @param bytes The file's last `FOOTER_BYTES`.
 * @param fileBytes Bytes that the file has.
 * @returns Undefined where these bytes are no footer.
 * @throws TensorwireError `FRAME_CORRUPT`, `VERSION_UNSUPPORTED`, `PROTOCOL` where they are, and not that of such a file.
 */
export function parseFooter(bytes: Uint8Array, fileBytes: number): Footer | undefined {
  if (bytes.length !== FOOTER_BYTES || MAGIC.some((byte, i) => byte !== bytes[MAGIC_AT + i]))
    return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, FOOTER_BYTES);
  if (view.getBigUint64(CHECKSUM_AT, true) !== xxh64(bytes.subarray(0, CHECKSUM_AT))) {
    throw new TensorwireError("FRAME_CORRUPT", "the footer does not match its checksum: bytes changed");
  }
  const version = view.getUint32(VERSION_AT, true);
  if (version !== VERSION) {
    throw new TensorwireError(
      "VERSION_UNSUPPORTED",
      `a footer of version ${version}; this side reads version ${VERSION}: update it`,
    );
  }
  const [headBytes, endPosition, whole] = [0, 8, 16].map((at) => view.getBigUint64(at, true)) as [
    bigint,
    bigint,
    bigint,
  ];
  if (whole !== BigInt(fileBytes)) {
    const message = `the footer is that of a file of ${whole} bytes, and this one has ${fileBytes}: bytes are missing, or were added`;
    throw new TensorwireError("PROTOCOL", message);
  }
  const ordered =
    view.getUint32(RESERVED_AT, true) === 0 &&
    headBytes >= PREAMBLE.length + 2 * HEADER_BYTES &&
    headBytes <= endPosition &&
    endPosition + BigInt(2 * HEADER_BYTES + FOOTER_BYTES) <= whole;
  if (!ordered) {
    const message = `the footer places ${headBytes} bytes of head, and END at ${endPosition}, in a file of ${whole}`;
    throw new TensorwireError("PROTOCOL", message);
  }
  return { headBytes: Number(headBytes), endPosition: Number(endPosition), fileBytes };
}
