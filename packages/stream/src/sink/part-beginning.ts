import type { BigIntStats } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { Journal, type JournalTopic } from "../journal/journal.js";
import { inTheWay, openKnown, type Place, takeUp, tidyComplete } from "../journal/leftover.js";
import { isOwned, lookAt, type OwnFile, openOwn } from "../journal/own-file.js";
import type { JournaledFile } from "../journal/record.js";
import { refuseFull } from "./destination.js";
import { Lock } from "./lock.js";
import { isErrno } from "./target-error.js";

export interface BeginningOptions {
  /** Goes on from a part file that begins so, if there is one, though no journal tells of it. With a topic only. */
  readonly beginsWith?: Uint8Array | undefined;
  /** Bytes that will be written, as far as that is known: refused at once where the disk has fewer. */
  readonly expectedBytes?: number | undefined;
  /** Keeps a journal beside it, and goes on from one about the same. */
  readonly topic?: JournalTopic | undefined;
  /** Goes on from this part file, which a journal named. */
  readonly known?: JournaledFile | undefined;
}

/** What an open part file begins with. */
export interface Begun {
  readonly handle: FileHandle;
  readonly stats: BigIntStats;
  readonly journal: Journal | undefined;
  /** Found without a journal. */
  readonly recovered: boolean;
}

/** Goes on with what an earlier attempt left, or begins anew. */
export async function begin(place: Place, options: BeginningOptions): Promise<Begun> {
  const { expectedBytes = 0, topic, known, beginsWith } = options;
  const found = topic && beginsWith && (await openBeginning(place.part, beginsWith));
  const left = await takeUp(place, topic, found !== undefined).catch(async (error) => {
    await found?.handle.close();
    throw error;
  });
  if (left) await found?.handle.close();
  const recovered = left ? undefined : found;
  const part = left?.part ?? recovered ?? (known && (await openKnown(place.part, known)));
  // Its chunks are held, and will not come again.
  if (known && !part) throw replaced(place.part);
  try {
    // What is there already is not taken again.
    const there = left ? [...left.replayed.files.values()] : known ? [known] : [];
    const recoveredBytes = Number(recovered?.stats.size ?? 0);
    await refuseFull(
      place.target,
      there.reduce((left, { size }) => left - size, expectedBytes - recoveredBytes),
    );
    if (part) {
      const goesOn = left && topic && Journal.goOn(place.journal, topic, left.file, left.replayed);
      const journal = recovered && topic ? Journal.begin(place.journal, topic) : goesOn;
      return { ...part, journal, recovered: recovered !== undefined };
    }
    return await create(place, topic);
  } catch (error) {
    await part?.handle.close();
    await left?.file.close();
    throw error;
  }
}

/** Something has taken a part file away, or cut it. */
export function replaced(part: string): TensorwireError {
  const message = `${quote(part)} is not the file that was written any more: something replaced it, or cut it: start again`;
  return new TensorwireError("TARGET_WRITE", message);
}

/** Creates `NAME.part`: always a new file, so that nothing that was put there is followed, shared or added to. */
async function create({ part, journal, replace }: Place, topic: JournalTopic | undefined): Promise<Begun> {
  if (replace) {
    await unlink(part).catch((error) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }
  const handle = await open(part, "wx").catch((cause) => {
    throw isErrno(cause, "EEXIST") ? inTheWay(part, cause) : cause;
  });
  const stats = await handle.stat({ bigint: true });
  // Where files are somebody else's as soon as they are made, nobody could tell them from a stranger's later.
  const begun = topic && isOwned(stats) ? Journal.begin(journal, topic) : undefined;
  return { handle, stats, journal: begun, recovered: false };
}

/** Opens a part file of this user's that begins so. */
async function openBeginning(path: string, beginning: Uint8Array): Promise<OwnFile | undefined> {
  const own = await openOwn(path);
  if (own && (await beginsWith(own.handle, beginning).catch(() => false))) return own;
  await own?.handle.close();
  return undefined;
}

async function beginsWith(handle: FileHandle, beginning: Uint8Array): Promise<boolean> {
  const piece = Buffer.alloc(Math.min(beginning.length, 64 * 1024));
  for (let at = 0; at < beginning.length; ) {
    const expected = beginning.subarray(at, at + piece.length);
    const { bytesRead } = await handle.read(piece, 0, expected.length, at);
    if (bytesRead === 0 || piece.compare(expected, 0, bytesRead, 0, bytesRead) !== 0) return false;
    at += bytesRead;
  }
  return true;
}

/** What is complete, and refused, may have a dead process's traces beside it. */
export async function tidyUnlocked(place: Place): Promise<void> {
  const path = `${place.part}.lock`;
  try {
    if (!(await lookAt(place.journal)) && !(await lookAt(path))) return;
    const lock = await Lock.take(path, place.target);
    await tidyComplete(place).finally(() => lock.release());
  } catch {
    // Somebody is writing it, or it is not for us to look at.
  }
}
