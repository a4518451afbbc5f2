import { decompress } from "fzstd";
import { TensorwireError } from "../errors.js";

/** Makes zstd frames (RFC 8878), and undoes them. Synchronous; whatever it makes, any other one undoes. */
export interface Packer {
  /** For summaries and notices: `zstd-napi`, … */
  readonly name: string;
  /**
   * Writes one frame with `bytes` and their number to the beginning of `target`.
   * @returns the frame's length; 0 where it does not fit, or where nothing is packed here.
   */
  pack(bytes: Uint8Array, target: Uint8Array): number;
  /** Fills `target` from one frame of exactly that many bytes. What it throws, or leaves behind then, means nothing. */
  unpack(frame: Uint8Array, target: Uint8Array): void;
}

/** Undoes what others pack, in any runtime, and packs nothing itself. */
export const unpackOnly: Packer = {
  name: "fzstd",
  pack: () => 0,
  unpack(frame, target) {
    decompress(frame, target);
  },
};

const MAGIC = 0xfd2fb528;
const SINGLE_SEGMENT = 0x20;
const RESERVED_AND_DICTIONARY = 0x0b;
/** The shortest window that a frame can ask for. */
const SMALLEST_WINDOW = 1024;

/**
 * Refuses a frame that does not say that it holds `bytes` bytes, or that asks for a dictionary or for a window of more
 * than twice that: before anything is decompressed, and so before memory is taken for it. RFC 8878, section 3.1.1.1.
 * @throws TensorwireError `PAYLOAD_INVALID`.
 */
export function checkFrame(frame: Uint8Array, bytes: number): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  // Magic number, descriptor, window, and the longest content size.
  if (frame.length < 6 || view.getUint32(0, true) !== MAGIC) throw invalid("is no zstd frame");
  const descriptor = frame[4]!;
  if (descriptor & RESERVED_AND_DICTIONARY)
    throw invalid("asks for a dictionary, or for what is not defined");
  const single = (descriptor & SINGLE_SEGMENT) !== 0;
  const at = single ? 5 : 6;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >>> 6]!;
  if (sizeBytes === 0 || frame.length < at + sizeBytes) throw invalid("does not say how long its content is");
  const content =
    sizeBytes === 1
      ? frame[at]!
      : sizeBytes === 2
        ? view.getUint16(at, true) + 256
        : sizeBytes === 4
          ? view.getUint32(at, true)
          : Number(view.getBigUint64(at, true));
  if (content !== bytes) throw invalid(`says that its content is ${content} bytes, not ${bytes}`);
  if (single) return;
  const exponent = frame[5]! >>> 3;
  const base = 2 ** (10 + exponent);
  const window = base + (base / 8) * (frame[5]! & 7);
  if (window > 2 * Math.max(bytes, SMALLEST_WINDOW)) throw invalid(`asks for a window of ${window} bytes`);
}

function invalid(what: string): TensorwireError {
  return new TensorwireError("PAYLOAD_INVALID", `a packed part ${what}`);
}
