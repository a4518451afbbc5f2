// zstd frames by hand (RFC 8878, section 3), sound and otherwise: what a peer may send.

export interface FrameFields {
  /** The length that the frame says its content has. */
  readonly says?: number;
  /** Bits of the frame header's descriptor beside those of the content's size. */
  readonly flags?: number;
  /** Descriptor of the window; a frame without one has its content for a window. */
  readonly window?: number;
  readonly magic?: number;
}

const SINGLE_SEGMENT = 0x20;
const SIZE_OF_FOUR_BYTES = 0x80;

/** One frame, with its blocks behind one another. */
export function zstdFrame(
  blocks: readonly Uint8Array[],
  content: number,
  fields: FrameFields = {},
): Uint8Array {
  const { says = content, flags = 0, window, magic = 0xfd2fb528 } = fields;
  const head = new DataView(new ArrayBuffer(window === undefined ? 9 : 10));
  head.setUint32(0, magic, true);
  head.setUint8(4, SIZE_OF_FOUR_BYTES | flags | (window === undefined ? SINGLE_SEGMENT : 0));
  if (window !== undefined) head.setUint8(5, window);
  head.setUint32(head.byteLength - 4, says, true);
  return concatenated([new Uint8Array(head.buffer), ...blocks]);
}

/** A block of bytes as they are. */
export function rawBlock(bytes: Uint8Array, last = true): Uint8Array {
  return concatenated([blockHead(0, bytes.length, last), bytes]);
}

/** A block of one byte many times: four bytes that stand for up to two million. */
export function runBlock(byte: number, times: number, last = true): Uint8Array {
  return concatenated([blockHead(1, times, last), Uint8Array.of(byte)]);
}

/** A block that says it is compressed, of any bytes. */
export function compressedBlock(bytes: Uint8Array, last = true): Uint8Array {
  return concatenated([blockHead(2, bytes.length, last), bytes]);
}

function blockHead(type: number, size: number, last: boolean): Uint8Array {
  const word = (last ? 1 : 0) | (type << 1) | (size << 3);
  return Uint8Array.of(word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff);
}

/** An envelope of these parts. */
export function envelopeOf(
  parts: readonly Uint8Array[],
  lengths = parts.map(({ length }) => length),
): Uint8Array {
  return concatenated([new Uint8Array(Uint32Array.from(lengths).buffer), ...parts]);
}

export function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
