import { type FileHandle, lstat, readlink, realpath } from "node:fs/promises";
import { sep } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";

/**
 * Looks whether a file that was opened lies within a folder. The file itself is looked at, not its path: a link that took a
 * folder's place before it was opened, and gave it back since, changes nothing.
 * @param folder Without links.
 * @throws TensorwireError `SOURCE_READ` where it does not.
 */
export async function checkWithin(folder: string, path: string, handle: FileHandle): Promise<void> {
  const real = await openedPath(path, handle);
  if (real?.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return;
  throw new TensorwireError("SOURCE_READ", `${quote(path)} leads out of its folder`, { retryable: false });
}

/** Where an open file is; undefined where nothing says so. */
async function openedPath(path: string, handle: FileHandle): Promise<string | undefined> {
  if (process.platform === "linux") {
    const told = await readlink(`/proc/self/fd/${handle.fd}`).catch(() => undefined);
    if (told !== undefined) return told;
  }
  const real = await realpath(path);
  const [found, opened] = await Promise.all([lstat(real, { bigint: true }), handle.stat({ bigint: true })]);
  return found.dev === opened.dev && found.ino === opened.ino ? real : undefined;
}
