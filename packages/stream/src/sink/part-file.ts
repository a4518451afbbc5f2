import { type FileHandle, link, rename, unlink } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { expireParts, type PartsOptions } from "../journal/expiry.js";
import type { Journal, PartOfJournal } from "../journal/journal.js";
import { JOURNAL_SUFFIX, openKnown, PART_SUFFIX, tidyComplete } from "../journal/leftover.js";
import { type FileIdentity, identityOf, lookAt, removeFile, sameFile } from "../journal/own-file.js";
import { refuseTaken, resolveTarget, targetExists } from "./destination.js";
import { Lock } from "./lock.js";
import { type BeginningOptions, type Begun, begin, replaced, tidyUnlocked } from "./part-beginning.js";
import { syncData, syncFile, syncFolder } from "./synced.js";
import { isErrno, targetError } from "./target-error.js";
import { writeAll } from "./write-all.js";

export interface TargetOptions {
  /** Replace a file that exists. Default false. A symbolic link is replaced, not followed. */
  readonly overwrite?: boolean | undefined;
  /**
   * Go on from what an interrupted transfer of the same model left here, and leave what this one has if it is interrupted.
   * Default true; false starts clean, and leaves nothing.
   */
  readonly resume?: boolean | undefined;
  /** Which unfinished files of other transfers stay in the folder. */
  readonly parts?: PartsOptions | undefined;
}

export interface PartFileOptions extends Omit<TargetOptions, "resume">, BeginningOptions {
  /** What its name has behind it until it is complete. Default `.part`. */
  readonly suffix?: string | undefined;
}

/**
 * A file that appears under its name only when it is complete. Until then it is `NAME.part`, under the lock
 * `NAME.part.lock`, and grows with what is written: nothing is allocated ahead. With a journal, `NAME.part.journal`, it
 * outlasts an interruption.
 */
export class PartFile implements PartOfJournal {
  readonly name: string;
  readonly identity: FileIdentity;
  /** What an attempt after this one goes on from. */
  readonly journal: Journal | undefined;
  /** It goes on from a file that no journal tells of: what of it is good has yet to be found out. */
  readonly recovered: boolean;
  #handle: FileHandle | undefined;
  #bytes: number;
  #unsynced = true;
  #syncing: Promise<void> = Promise.resolve();
  #naming = false;
  #released = false;
  #failure: TensorwireError | undefined;
  #aborting: Promise<void> | undefined;
  readonly #underWay = new Set<Promise<void>>();

  private constructor(
    /** Where it will appear. */
    readonly path: string,
    /** Where it is until then. */
    private readonly part: string,
    private readonly overwrite: boolean,
    private readonly lock: Lock,
    { handle, stats, journal, recovered }: Begun,
  ) {
    this.name = basename(path);
    this.identity = identityOf(stats);
    this.journal = journal;
    this.recovered = recovered;
    this.#handle = handle;
    this.#bytes = Number(stats.size);
    journal?.add(this);
  }

  /**
   * Refuses what cannot work before anything is taken, then creates the part file, or goes on with one.
   * @throws TensorwireError `TARGET_EXISTS`, `TARGET_BUSY`, `TARGET_FULL`, `TARGET_WRITE`.
   */
  static async open(path: string, options: PartFileOptions = {}): Promise<PartFile> {
    const { overwrite = false, suffix = PART_SUFFIX, parts } = options;
    const target = await resolveTarget(path);
    const part = `${target}${suffix}`;
    const journal = `${part}${JOURNAL_SUFFIX}`;
    await refuseTaken(target, overwrite).catch(async (error) => {
      await tidyUnlocked({ target, part, journal, replace: false });
      throw error;
    });
    const lock = await Lock.take(`${part}.lock`, target);
    try {
      const place = { target, part, journal, replace: overwrite || lock.inherited };
      await tidyComplete(place);
      // Again, under the lock: another receiver may just have finished.
      await refuseTaken(target, overwrite);
      if (parts) await expireParts(dirname(target), journal, parts);
      return new PartFile(target, part, overwrite, lock, await begin(place, options));
    } catch (cause) {
      await lock.release();
      throw targetError(cause, target);
    }
  }

  /** Bytes that were written, from the beginning to the end of what lies last. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Writes bytes, or several parts one after the other, at `position`. Calls may overlap. The bytes are lent until it resolves.
   * @throws TensorwireError `TARGET_FULL`, `TARGET_WRITE`.
   */
  write(data: Uint8Array | readonly Uint8Array[], position: number): Promise<void> {
    return this.#track(this.#write(data instanceof Uint8Array ? [data] : data, position));
  }

  async #write(parts: readonly Uint8Array[], position: number): Promise<void> {
    await writeAll(this.#open(), parts, position);
    const end = parts.reduce((sum, { length }) => sum + length, position);
    this.#bytes = Math.max(this.#bytes, end);
    this.#unsynced = true;
  }

  /** Fills `target` from what an earlier attempt wrote. */
  async readInto(position: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const length = target.length - done;
      const { bytesRead } = await this.#open().read(target, done, length, position + done);
      if (bytesRead === 0) throw replaced(this.part);
      done += bytesRead;
    }
  }

  /** Makes durable what is written, while it is still being written. */
  async sync(): Promise<void> {
    if (this.#failure) throw this.#failure;
    // Closed ones were synced before.
    if (!this.#handle || !this.#unsynced) return;
    this.#unsynced = false;
    const syncing = this.#track(syncData(this.#handle));
    this.#syncing = syncing.catch(() => {});
    await syncing;
  }

  /** Takes away what an earlier attempt wrote behind this. */
  truncate(bytes: number): Promise<void> {
    return this.#track(
      this.#open()
        .truncate(bytes)
        .then(() => {
          this.#bytes = bytes;
        }),
    );
  }

  #open(): FileHandle {
    if (this.#failure) throw this.#failure;
    if (this.#handle && !this.#aborting) return this.#handle;
    throw this.#abandoned();
  }

  /** Complete, durable and visible. @throws TensorwireError `TARGET_EXISTS`, `TARGET_FULL`, `TARGET_WRITE`. */
  async finish(): Promise<void> {
    await this.complete();
    await this.publish();
    await this.release();
  }

  /** The first third of `finish`, for files that appear together: durable and closed, but still under its part name. */
  async complete(): Promise<void> {
    const handle = this.#open();
    await Promise.allSettled(this.#underWay);
    // Delayed allocation: the disk may turn out to be full only now.
    await this.#attempt(async () => {
      await syncFile(handle);
    });
    // A checkpoint may still be at it.
    await this.#syncing;
    await this.#attempt(() => this.#close());
  }

  /** After `complete`: there is more to be written. */
  async reopen(): Promise<void> {
    await this.#attempt(async () => {
      const own = await openKnown(this.part, { ...this.identity, name: this.name, size: this.#bytes });
      if (!own) throw replaced(this.part);
      this.#handle = own.handle;
    });
  }

  /** The second third: gives it its name. */
  async publish(): Promise<void> {
    const { part } = this;
    await this.#attempt(async () => {
      const found = await lookAt(part);
      const whole = found && sameFile(identityOf(found), this.identity) && Number(found.size) >= this.#bytes;
      if (found && !whole) throw replaced(part);
      this.#naming = true;
      if (this.overwrite) await rename(part, this.path);
      else await nameOnce(part, this.path);
      await syncFolder(dirname(this.path));
    });
  }

  /** The last third: nobody will take it back. */
  async release(): Promise<void> {
    await this.#attempt(async () => {
      this.#released = true;
      await this.journal?.remove();
      await this.lock.release();
    });
  }

  async #attempt(step: () => Promise<void>): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#aborting) throw this.#abandoned();
    await this.#track(step());
  }

  /** What `abort` waits for, and what fails everything after it. */
  #track(work: Promise<void>): Promise<void> {
    const tracked = work.catch((cause) => {
      this.#failure ??= targetError(cause, this.path);
      throw this.#failure;
    });
    this.#underWay.add(tracked);
    const settled = (): void => void this.#underWay.delete(tracked);
    tracked.then(settled, settled);
    return tracked;
  }

  #abandoned(): TensorwireError {
    return new TensorwireError("ABORTED", `${quote(this.path)} is not being written any more`);
  }

  /**
   * Leaves nothing behind, unless it is finished, or `keep` leaves the part file to an attempt after this one. Waits for
   * what is under way; never rejects.
   */
  abort(keep = false): Promise<void> {
    this.#aborting ??= this.#abort(keep);
    return this.#aborting;
  }

  async #abort(keep: boolean): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await this.#close().catch(() => {});
    if (this.#released) return;
    if (this.#naming) await this.#withdraw().catch(() => {});
    if (!keep) await removeFile(this.part, this.identity);
    await this.lock.release();
  }

  /** Takes back the name: other files that should have appeared with this one did not, or it is not known to be durable. */
  async #withdraw(): Promise<void> {
    const found = await lookAt(this.path);
    // What has the name may be what was there before, or somebody else's.
    if (!found || !sameFile(identityOf(found), this.identity)) return;
    if (await lookAt(this.part)) await unlink(this.path);
    else await rename(this.path, this.part);
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }
}

const NO_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV", "EACCES"];

/** Names the file where nothing has that name. A link never replaces anything, unlike a rename. */
async function nameOnce(part: string, path: string): Promise<void> {
  try {
    await link(part, path);
  } catch (cause) {
    if (isErrno(cause, "EEXIST")) throw targetExists(path, cause);
    if (!isErrno(cause, ...NO_LINKS)) throw cause;
    // A file system without hard links: nothing better than to look first.
    await refuseTaken(path, false);
    return rename(part, path);
  }
  await unlink(part);
}
