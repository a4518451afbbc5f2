import { lstat, realpath, stat, statfs } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { isErrno, targetError } from "./target-error.js";

/** A path in one spelling: its folder without links and dots. The last name stays, link or not: it is what a rename replaces. */
export async function resolveTarget(path: string): Promise<string> {
  const name = basename(path);
  if (path.endsWith("/") || path.endsWith(sep) || ["", ".", ".."].includes(name)) {
    throw new TensorwireError(
      "TARGET_WRITE",
      `cannot write ${quote(path)}: it is a folder: name a file in it`,
    );
  }
  let folder: string;
  try {
    folder = await realpath(dirname(path));
  } catch (cause) {
    throw targetError(cause, path);
  }
  return join(folder, name);
}

/**
 * Refuses what a rename to `path` would wrongly replace.
 * @throws TensorwireError `TARGET_EXISTS`, `TARGET_WRITE`.
 */
export async function refuseTaken(path: string, overwrite: boolean): Promise<void> {
  try {
    const found = await lstat(path);
    const target = found.isSymbolicLink() ? await stat(path).catch(() => found) : found;
    // Where a pipe or a device is meant, replacing it is never what was meant.
    if (!target.isFile() && !target.isSymbolicLink()) {
      const what = target.isDirectory()
        ? "a folder: name a file in it"
        : "no regular file: choose another path";
      throw new TensorwireError("TARGET_WRITE", `cannot write ${quote(path)}: it is ${what}`);
    }
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return;
    throw targetError(cause, path);
  }
  if (!overwrite) throw targetExists(path);
}

export function targetExists(path: string, cause?: unknown): TensorwireError {
  const advice = "pass --overwrite (overwrite: true) to replace it, or choose another path";
  return new TensorwireError("TARGET_EXISTS", `${quote(path)} exists: ${advice}`, { cause });
}

/** @throws TensorwireError `TARGET_FULL` where the disk of `path` has less than `bytes` bytes to give. */
export async function refuseFull(path: string, bytes: number): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(dirname(path)).catch((cause) => {
    throw targetError(cause, path);
  });
  const free = bavail * bsize;
  // File systems without a size of their own say 0: they are believed when they refuse.
  if (blocks === 0 || free >= bytes) return;
  throw new TensorwireError(
    "TARGET_FULL",
    `cannot write ${quote(path)}: it takes ${bytes} bytes, its disk has ${free}: free some, or choose another place`,
  );
}
