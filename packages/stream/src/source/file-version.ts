import { createHash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { stat } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { fileFault } from "./file-fault.js";

/**
 * What tells one state of a file from another without reading it. `ctimeNs` notices what `mtimeNs` misses: a time that
 * was set back, another file moved into its place.
 */
export interface FileVersion {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export function fileVersion({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): FileVersion {
  return { dev, ino, size, mtimeNs, ctimeNs };
}

/** The version token of a source that is made of these files. It tells a stranger nothing of them. */
export function versionToken(files: readonly FileVersion[]): string {
  const hash = createHash("sha256");
  for (const { dev, ino, size, mtimeNs, ctimeNs } of files) {
    hash.update(`${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}\n`);
  }
  return hash.digest("hex").slice(0, 32);
}

/** The token of a source whose state is several tokens together. */
export function joinedToken(...tokens: readonly string[]): string {
  const hash = createHash("sha256");
  for (const token of tokens) hash.update(`${token}\n`);
  return hash.digest("hex").slice(0, 32);
}

/** @throws TensorwireError `SOURCE_CHANGED` where the two are not the same file in the same state. */
export function checkVersion(path: string, before: FileVersion, now: FileVersion): void {
  const { dev, ino, size, mtimeNs, ctimeNs } = before;
  let change: string | undefined;
  if (dev !== now.dev || ino !== now.ino) change = "another file has taken its place";
  else if (size !== now.size) change = `it had ${size} bytes and has ${now.size}`;
  else if (mtimeNs !== now.mtimeNs) change = "it was written to";
  else if (ctimeNs !== now.ctimeNs) change = "it was moved, replaced or given other attributes";
  if (change === undefined) return;
  throw new TensorwireError("SOURCE_CHANGED", `${quote(path)} changed while it was being read: ${change}`);
}

/** The same for a file that is not open. */
export async function verifyFile(path: string, before: FileVersion): Promise<void> {
  let now: FileVersion;
  try {
    now = fileVersion(await stat(path, { bigint: true }));
  } catch (error) {
    const cause = fileFault(error, path, "read");
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new TensorwireError("SOURCE_CHANGED", `${quote(path)} was removed while it was being read`, {
      cause,
    });
  }
  checkVersion(path, before, now);
}
