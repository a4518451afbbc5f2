import type { Packer } from "@tensorwire/core";

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
/** A content size of four bytes, in a single segment, without checksum or dictionary. */
const DESCRIPTOR = 0xa0;
const RAW = 0;
const RLE = 1;
/** The longest block, and the shortest run that is worth one. */
const MAX_BLOCK = 128 * 1024;
const MIN_RUN = 16;

/** Makes zstd frames (RFC 8878) of raw blocks and of runs of one byte, and undoes only those: a packer by itself. */
export const runPacker: Packer = { name: "runs", pack: packRuns, unpack: unpackRuns };

/** Lengths of the runs and of what is between them, in order. */
function* blocks(bytes: Uint8Array): Generator<{ type: number; begin: number; end: number }> {
  let begin = 0;
  for (let at = 0; at < bytes.length; ) {
    let end = at + 1;
    while (end < bytes.length && bytes[end] === bytes[at] && end - at < MAX_BLOCK) end++;
    if (end - at >= MIN_RUN) {
      if (at > begin) yield { type: RAW, begin, end: at };
      yield { type: RLE, begin: at, end };
      begin = end;
    } else if (end - begin >= MAX_BLOCK - MIN_RUN) {
      yield { type: RAW, begin, end };
      begin = end;
    }
    at = end;
  }
  if (begin < bytes.length) yield { type: RAW, begin, end: bytes.length };
}

function packRuns(bytes: Uint8Array, target: Uint8Array): number {
  const out: number[] = [...MAGIC, DESCRIPTOR, ...u32(bytes.length)];
  for (const { type, begin, end } of blocks(bytes)) {
    const header = ((end - begin) << 3) | (type << 1) | (end === bytes.length ? 1 : 0);
    out.push(...u32(header).slice(0, 3));
    if (type === RLE) out.push(bytes[begin]!);
    else for (let at = begin; at < end; at++) out.push(bytes[at]!);
    if (out.length > target.length) return 0;
  }
  target.set(out);
  return out.length;
}

function unpackRuns(frame: Uint8Array, target: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (MAGIC.some((byte, i) => frame[i] !== byte) || frame[4] !== DESCRIPTOR) throw new Error("no such frame");
  if (view.getUint32(5, true) !== target.length) throw new Error("another length");
  let at = 9;
  let to = 0;
  for (let last = false; !last; ) {
    const header = view.getUint16(at, true) | (frame[at + 2]! << 16);
    at += 3;
    last = (header & 1) === 1;
    const [type, length] = [(header >> 1) & 3, header >> 3];
    if (type > RLE || to + length > target.length) throw new Error("no such block");
    if (type === RLE) target.fill(frame[at++]!, to, to + length);
    else target.set(frame.subarray(at, (at += length)), to);
    to += length;
  }
  if (to !== target.length || at !== frame.length) throw new Error("another end");
}

const u32 = (value: number): number[] =>
  [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 255);
