import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import { Lock } from "../sink/lock.js";
import { discard, JOURNAL_SUFFIX, PART_SUFFIX } from "./leftover.js";
import { identityOf, lookAt, openOwn, sameFile } from "./own-file.js";
import type { JournaledFile } from "./record.js";
import { replay } from "./replay.js";

/** How long unfinished files stay, for a later attempt to go on from. */
export interface PartsOptions {
  /** Those that nothing was added to for so long are removed. Default 7 days. */
  readonly maxAgeMs?: number | undefined;
  /** The oldest are removed until the others take no more bytes than this. Default: no bound. */
  readonly maxBytes?: number | undefined;
}

export const DEFAULT_PARTS_MAX_AGE_MS = 7 * 24 * 60 * 60 * 1000;

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkParts(parts: PartsOptions): void {
  for (const name of ["maxAgeMs", "maxBytes"] as const) {
    const value = parts[name];
    if (value === undefined || value >= 0) continue;
    throw new TensorwireError("INVALID_ARGUMENT", `parts.${name} is a number of at least 0, not ${value}`);
  }
}

interface Unfinished {
  readonly journal: string;
  readonly touchedMs: number;
  readonly bytes: number;
}

/**
 * Removes old unfinished files of the folder: those with a journal of ours that nobody is writing. Whatever cannot be looked
 * at or removed stays.
 * @param except The journal of the file that is about to be written.
 */
export async function expireParts(
  folder: string,
  except: string,
  { maxAgeMs = DEFAULT_PARTS_MAX_AGE_MS, maxBytes = Number.POSITIVE_INFINITY }: PartsOptions,
): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  const found: Unfinished[] = [];
  for (const name of names) {
    const journal = join(folder, name);
    if (!name.endsWith(`${PART_SUFFIX}${JOURNAL_SUFFIX}`) || journal === except) continue;
    const unfinished = await inspect(folder, journal).catch(() => undefined);
    if (unfinished) found.push(unfinished);
  }
  let kept = 0;
  for (const { journal, touchedMs, bytes } of found.sort((a, b) => b.touchedMs - a.touchedMs)) {
    const stays = Date.now() - touchedMs <= maxAgeMs && kept + bytes <= maxBytes;
    if (stays) kept += bytes;
    else await expire(folder, journal, touchedMs).catch(() => {});
  }
}

async function inspect(folder: string, journal: string): Promise<Unfinished | undefined> {
  const read = await readOwn(journal);
  if (!read) return undefined;
  let { touchedMs } = read;
  let bytes = 0;
  for (const [name, file] of read.files) {
    const stats = await lookAt(join(folder, `${name}${PART_SUFFIX}`));
    if (!stats || !sameFile(identityOf(stats), file)) continue;
    bytes += Number(stats.size);
    touchedMs = Math.max(touchedMs, Number(stats.mtimeMs));
  }
  return { journal, touchedMs, bytes };
}

interface OwnJournal {
  readonly files: ReadonlyMap<string, JournaledFile>;
  readonly touchedMs: number;
}

async function readOwn(journal: string): Promise<OwnJournal | undefined> {
  const own = await openOwn(journal);
  if (!own) return undefined;
  const replayed = await replay(own.handle, undefined).finally(() => own.handle.close());
  return replayed && { files: replayed.files, touchedMs: Number(own.stats.mtimeMs) };
}

/** Under its lock: a receiver may just have begun to go on with it. */
async function expire(folder: string, journal: string, touchedMs: number): Promise<void> {
  const part = journal.slice(0, -JOURNAL_SUFFIX.length);
  const lock = await Lock.take(`${part}.lock`, part);
  try {
    const now = await inspect(folder, journal);
    const read = await readOwn(journal);
    if (now?.touchedMs === touchedMs && read) await discard(journal, read.files);
  } finally {
    await lock.release();
  }
}
