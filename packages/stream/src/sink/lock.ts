import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { lstat, readFile, rename, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { quote, TensorwireError } from "@tensorwire/core";
import { describeSelf, isRunning, type Owner, parseOwner } from "./lock-owner.js";
import { isErrno, targetError } from "./target-error.js";

/** A lock file that somebody else created. */
interface Found {
  readonly text: string;
  /** Undefined where the text is none of ours, or not all of it. */
  readonly owner: Owner | undefined;
  readonly ageMs: number;
}

interface Taken {
  readonly path: string;
  readonly text: string;
  readonly inherited: boolean;
}

// A lock is created and filled in one go of its process; one that is still empty after this long was never finished.
const UNFINISHED_MS = 5000;

// Taking a dead owner's lock needs a lock of its own. A taker that dies too is taken over in turn, but not for ever.
const MAX_GUARDS = 2;

/**
 * A lock file: at most one holder, in this process or any other of this host. The lock of a process that is gone is
 * taken over; one from another host is believed, since nothing here can tell whether its process still runs.
 */
export class Lock {
  private constructor(private readonly taken: Taken) {}

  /**
   * @param path The lock file.
   * @param target What it guards, for messages.
   * @throws TensorwireError `TARGET_BUSY`, `TARGET_WRITE`, `TARGET_FULL`.
   */
  static async take(path: string, target: string): Promise<Lock> {
    try {
      return new Lock(await take(path, target, 0));
    } catch (cause) {
      throw targetError(cause, target);
    }
  }

  /** It was the lock of a process that died: what that process left behind is nobody's. */
  get inherited(): boolean {
    return this.taken.inherited;
  }

  /** Gives the lock up. Never rejects: a lock that stays is taken over once this process is gone. */
  release(): Promise<void> {
    return release(this.taken);
  }
}

async function take(path: string, target: string, guards: number): Promise<Taken> {
  for (;;) {
    const text = describeSelf(randomUUID());
    if (create(path, text)) return { path, text, inherited: false };
    const found = await read(path);
    if (!found) continue; // Released meanwhile.
    if (isHeld(found) || guards === MAX_GUARDS) throw busy(path, target, found);
    if (await replace(path, target, guards, found.text, text)) return { path, text, inherited: true };
  }
}

/**
 * Puts `text` in the place of a dead owner's lock. Under a guard: two processes that both found it dead would otherwise
 * remove each other's new lock. Atomically: there is no moment without a lock.
 */
async function replace(
  path: string,
  target: string,
  guards: number,
  dead: string,
  text: string,
): Promise<boolean> {
  const guard = await take(`${path}.guard`, target, guards + 1);
  const draft = `${path}.${randomUUID()}`;
  try {
    if ((await read(path))?.text !== dead) return false;
    writeFileSync(draft, text, { flag: "wx" });
    await rename(draft, path);
    return true;
  } catch (error) {
    await unlink(draft).catch(() => {});
    throw error;
  } finally {
    await release(guard);
  }
}

/** Creates the lock with its text; false where there is one. */
function create(path: string, text: string): boolean {
  let file: number;
  try {
    file = openSync(path, "wx");
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  }
  try {
    writeSync(file, text);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(file);
  }
  return true;
}

async function read(path: string): Promise<Found | undefined> {
  try {
    const stats = await lstat(path);
    // A link or a pipe in its place is nobody's lock, and reading it could lead anywhere.
    const text = stats.isFile() ? await readFile(path, "utf8") : "";
    return { text, owner: parseOwner(text), ageMs: Date.now() - stats.mtimeMs };
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Removes a lock if it still is the one that was taken. */
async function release({ path, text }: Taken): Promise<void> {
  try {
    if ((await read(path))?.text === text) await unlink(path);
  } catch {
    // Its folder is gone, or not ours any more.
  }
}

function isHeld({ owner, ageMs }: Found): boolean {
  return owner ? isRunning(owner) : ageMs < UNFINISHED_MS;
}

function busy(path: string, target: string, { owner }: Found): TensorwireError {
  const leftovers = `remove ${quote(path)} and the .part file beside it`;
  let who = "another process";
  let advice = `wait for it; if there is none, ${leftovers}`;
  if (owner?.host === hostname()) {
    who = owner.pid === process.pid ? `this process (${owner.pid})` : `process ${owner.pid}`;
    advice = "wait for it, or stop it";
  } else if (owner) {
    who = `process ${owner.pid} on host ${quote(owner.host)}`;
    advice = `wait for it; if it is gone, ${leftovers}`;
  }
  return new TensorwireError("TARGET_BUSY", `${who} is writing ${quote(target)}: ${advice}`);
}
