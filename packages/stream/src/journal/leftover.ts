import { type FileHandle, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { Lock } from "../sink/lock.js";
import { syncFolder } from "../sink/synced.js";
import type { JournalHead } from "./head.js";
import { identityOf, lookAt, type OwnFile, openOwn, removeFile, sameFile } from "./own-file.js";
import type { JournaledFile } from "./record.js";
import { type Replayed, replay } from "./replay.js";

/** What an unfinished file has behind its name, and its journal behind that. */
export const PART_SUFFIX = ".part";
export const JOURNAL_SUFFIX = ".journal";

/** Where a file is to appear. */
export interface Place {
  readonly target: string;
  readonly part: string;
  readonly journal: string;
  /** What is in the way may be removed, whosever it is. */
  readonly replace: boolean;
}

/** A part file and its journal, both open to be gone on with. */
export interface Leftover {
  readonly part: OwnFile;
  readonly file: FileHandle;
  readonly replayed: Replayed;
}

/**
 * What an earlier attempt at the same transfer left. Whatever else a journal of ours stands for is removed: the model of
 * another transfer, a part file that is gone. A part file is only believed with its journal, and a journal with its part
 * file: both this user's own, in the very inode that the journal names.
 * @param partIsOurs The part file shows by itself that it is of this transfer: then it stays, whatever its journal is.
 * @throws TensorwireError `TARGET_EXISTS` where something that is no journal of ours has its name.
 */
export async function takeUp(
  place: Place,
  topic: JournalHead | undefined,
  partIsOurs = false,
): Promise<Leftover | undefined> {
  if (!(await lookAt(place.journal))) return undefined;
  const own = await openOwn(place.journal);
  // What cannot be read is as good as damaged.
  const replayed = own && (await replay(own.handle, topic).catch(() => undefined));
  if (!own || !replayed) {
    await own?.handle.close();
    // A journal of ours that is damaged, where the part file beside it is ours.
    if (!place.replace && !(own && partIsOurs)) throw inTheWay(place.journal);
    await unlink(place.journal);
    return undefined;
  }
  const known = replayed.files.get(basename(place.target));
  const part = replayed.held?.set.count && known ? await openKnown(place.part, known) : undefined;
  if (part) return { part, file: own.handle, replayed };
  await own.handle.close();
  if (partIsOurs) {
    await discard(place.journal, new Map());
    return undefined;
  }
  // Of a set whose index has no name these are no more than parts.
  await takeBackNames(dirname(place.journal), replayed.files);
  await discard(place.journal, replayed.files);
  return undefined;
}

/** Opens a part file that a journal names; undefined where it is not that file any more. */
export async function openKnown(path: string, known: JournaledFile): Promise<OwnFile | undefined> {
  const own = await openOwn(path);
  if (!own) return undefined;
  if (sameFile(identityOf(own.stats), known) && own.stats.size >= BigInt(known.size)) return own;
  await own.handle.close();
  return undefined;
}

/** Removes a journal, and then the part files that it names. In this order: a journal must not outlive what it tells of. */
export async function discard(journal: string, files: ReadonlyMap<string, JournaledFile>): Promise<void> {
  const folder = dirname(journal);
  await unlink(journal);
  await syncFolder(folder);
  await removeParts(folder, files);
}

export async function removeParts(folder: string, files: ReadonlyMap<string, JournaledFile>): Promise<void> {
  for (const [name, file] of files) {
    if (basename(name) !== name) continue;
    const part = join(folder, `${name}${PART_SUFFIX}`);
    await removeFile(part, file);
    await removeLock(`${part}.lock`, part);
  }
}

/** The lock of a process that died; one that is held stays. */
async function removeLock(path: string, part: string): Promise<void> {
  try {
    if (await lookAt(path)) await (await Lock.take(path, part)).release();
  } catch {
    // Somebody is writing it, or it is not for us to look at.
  }
}

/** A process died when its file had its name already, and the journal was still there. */
export async function tidyComplete({ target, part, journal }: Place): Promise<void> {
  const own = await openOwn(journal);
  if (!own) return;
  const replayed = await replay(own.handle, undefined).finally(() => own.handle.close());
  const known = replayed?.files.get(basename(target));
  const found = known && (await lookAt(target));
  if (!found || !sameFile(identityOf(found), known)) return;
  // The second name of a file that was being named by a link.
  await removeFile(part, known);
  await unlink(journal);
}

/** A process died when some files of a set had their names already: they are unfinished again. */
export async function takeBackNames(
  folder: string,
  files: ReadonlyMap<string, JournaledFile>,
): Promise<void> {
  for (const [name, file] of files) {
    const target = join(folder, name);
    const found = await lookAt(target);
    if (!found || !sameFile(identityOf(found), file)) continue;
    const part = `${target}${PART_SUFFIX}`;
    if (await lookAt(part)) await unlink(target);
    else await rename(target, part);
  }
}

export function inTheWay(path: string, cause?: unknown): TensorwireError {
  const message = `${quote(path)} is in the way, and nobody of ours is writing it: remove it, or pass --overwrite (overwrite: true)`;
  return new TensorwireError("TARGET_EXISTS", message, { cause });
}
