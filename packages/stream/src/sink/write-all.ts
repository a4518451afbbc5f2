import type { FileHandle } from "node:fs/promises";

/** What of a file it takes to write to it. */
export type Writable = Pick<FileHandle, "write" | "writev">;

// No call writes 2 GiB or more: Linux stops short of it, other systems refuse.
const MAX_CALL_BYTES = 1024 * 1024 * 1024;

/** Writes the parts, one after the other, from `position` on: all of them, though a call may take less than it is given. */
export async function writeAll(
  file: Writable,
  parts: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let left = parts.filter(({ length }) => length > 0);
  let at = position;
  while (left.length) {
    const written = await writeSome(file, left, at);
    // A full disk takes a part, and says why only at the next call; one that takes nothing would be asked for ever.
    if (written === 0) throw new Error("the system takes no more bytes, and does not say why");
    at += written;
    left = without(left, written);
  }
}

async function writeSome(file: Writable, parts: readonly Uint8Array[], position: number): Promise<number> {
  const first = parts[0]!;
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  if (parts.length > 1 && total <= MAX_CALL_BYTES) return (await file.writev(parts, position)).bytesWritten;
  return (await file.write(first, 0, Math.min(first.length, MAX_CALL_BYTES), position)).bytesWritten;
}

function without(parts: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  const left: Uint8Array[] = [];
  for (const part of parts) {
    if (skip < part.length) left.push(part.subarray(skip));
    skip = Math.max(0, skip - part.length);
  }
  return left;
}
