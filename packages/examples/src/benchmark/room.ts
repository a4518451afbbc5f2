import { readFileSync } from "node:fs";
import { open, rm, statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";

const PIECE_BYTES = 4 * 2 ** 20;
/** What processes and the system need beside files that lie in memory. */
const SPARE_BYTES = 3 * 2 ** 29;

/** What files in a folder may take: of its file system, and of memory, which a tmpfs is. */
export async function roomBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return Math.max(0, Math.min(bavail * bsize, availableBytes() - SPARE_BYTES));
}

/** Free memory, and what the system would give up for more. */
export function availableBytes(): number {
  const text = readFileSync("/proc/meminfo", "latin1");
  const found = /^MemAvailable:\s+(\d+) kB/m.exec(text);
  return found ? Number(found[1]) * 1024 : freemem();
}

/**
 * Writes that many bytes, and removes them: the first write to memory that nobody has used is several times slower than any
 * later one, and the first contender would pay for it.
 */
export async function touch(folder: string, bytes: number): Promise<void> {
  const path = join(folder, "touched");
  const piece = new Uint8Array(PIECE_BYTES).fill(0xa5);
  const file = await open(path, "w");
  try {
    for (let at = 0; at < bytes; at += PIECE_BYTES)
      await file.write(piece, 0, Math.min(PIECE_BYTES, bytes - at));
  } finally {
    await file.close();
    await rm(path);
  }
}
