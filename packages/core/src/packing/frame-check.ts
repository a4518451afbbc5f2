import { TensorwireError } from "../errors.js";

const MAGIC = 0xfd2fb528;
const SINGLE_SEGMENT = 0x20;
const CHECKSUM = 0x04;
const RESERVED_AND_DICTIONARY = 0x0b;
const CHECKSUM_BYTES = 4;
/** The shortest window that a frame can ask for. */
const SMALLEST_WINDOW = 1024;

const BLOCK_HEAD_BYTES = 3;
const RUN_BLOCK = 1;
const COMPRESSED_BLOCK = 2;
/** The longest content of a block. */
const LARGEST_BLOCK = 128 * 1024;

/**
 * Refuses what is not one frame that says that it holds `bytes` bytes, and one that asks for a dictionary or for a
 * window of more than twice that, or whose blocks hold more: before anything is decompressed, and so before memory or
 * time is taken for it. RFC 8878, section 3.1.1.
 * @throws TensorwireError `PAYLOAD_INVALID`.
 * @example
 * try {
 *   checkFrame(new Uint8Array(20), 100);
 * } catch (error) {
 *   console.log((error as TensorwireError).code); // PAYLOAD_INVALID
 * }
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
  const window = single ? bytes : windowOf(frame[5]!);
  if (window > 2 * Math.max(bytes, SMALLEST_WINDOW)) throw invalid(`asks for a window of ${window} bytes`);
  const end = frame.length - (descriptor & CHECKSUM ? CHECKSUM_BYTES : 0);
  checkBlocks(frame.subarray(at + sizeBytes, Math.max(at + sizeBytes, end)), bytes);
}

/** Bytes of window that a descriptor stands for. */
function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >>> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** Refuses blocks that do not follow one another to the frame's end, or that say that they hold more than it. */
function checkBlocks(blocks: Uint8Array, bytes: number): void {
  let left = bytes;
  let known = true;
  for (let at = 0, last = false; !last; ) {
    if (at + BLOCK_HEAD_BYTES > blocks.length) throw invalid("ends before its last block");
    const head = blocks[at]! | (blocks[at + 1]! << 8) | (blocks[at + 2]! << 16);
    last = (head & 1) !== 0;
    const type = (head >>> 1) & 3;
    const size = head >>> 3;
    if (size > LARGEST_BLOCK || type > COMPRESSED_BLOCK) throw invalid("has a block that is none");
    // How much a compressed block holds shows when it is undone.
    if (type === COMPRESSED_BLOCK) known = false;
    else left -= size;
    at += BLOCK_HEAD_BYTES + (type === RUN_BLOCK ? 1 : size);
    if (left < 0 || (last && known && left > 0)) throw invalid(`does not hold ${bytes} bytes`);
    if (at > blocks.length || (last && at < blocks.length)) throw invalid("does not end with its last block");
  }
}

function invalid(what: string): TensorwireError {
  return new TensorwireError("PAYLOAD_INVALID", `a packed part ${what}`);
}
