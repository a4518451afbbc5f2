import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, open, unlink } from "node:fs/promises";
import { isErrno } from "../sink/target-error.js";

/** Which file it is, whatever its name: inode numbers come again, with another birth. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly birthNs: bigint;
}

export function identityOf({ dev, ino, birthtimeNs }: BigIntStats): FileIdentity {
  return {
    dev: BigInt.asUintN(64, dev),
    ino: BigInt.asUintN(64, ino),
    birthNs: BigInt.asUintN(64, birthtimeNs),
  };
}

export function sameFile(one: FileIdentity, other: FileIdentity): boolean {
  return one.dev === other.dev && one.ino === other.ino && one.birthNs === other.birthNs;
}

/** Whether only this user can have made the file; users are known by number, where the system has those. */
export function isOwned(stats: BigIntStats): boolean {
  return stats.isFile() && (process.geteuid === undefined || stats.uid === BigInt(process.geteuid()));
}

/** A file of this user's, open to be gone on with. */
export interface OwnFile {
  readonly handle: FileHandle;
  readonly stats: BigIntStats;
}

/**
 * Opens a file that an earlier attempt may have left; undefined where it is not this user's own regular file, under this
 * name alone. No link is followed, and no pipe waited for.
 */
export async function openOwn(path: string): Promise<OwnFile | undefined> {
  const { O_RDWR, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;
  let handle: FileHandle;
  try {
    handle = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  } catch {
    return undefined;
  }
  const stats = await handle.stat({ bigint: true }).catch(() => undefined);
  if (stats && isOwned(stats) && stats.nlink === 1n) return { handle, stats };
  await handle.close();
  return undefined;
}

/** What stands at a path, links not followed; undefined where nothing does. */
export async function lookAt(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Removes a file if it still is the one that is meant. Never rejects. */
export async function removeFile(path: string, identity: FileIdentity): Promise<void> {
  const found = await lookAt(path).catch(() => undefined);
  if (found && sameFile(identityOf(found), identity)) await unlink(path).catch(() => {});
}
