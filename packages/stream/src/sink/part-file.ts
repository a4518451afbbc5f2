import type { Stats } from "node:fs";
import { type FileHandle, link, lstat, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { refuseFull, refuseTaken, resolveTarget, targetExists } from "./destination.js";
import { Lock } from "./lock.js";
import { isErrno, targetError } from "./target-error.js";
import { writeAll } from "./write-all.js";

export interface TargetOptions {
  /** Replace a file that exists. Default false. A symbolic link is replaced, not followed. */
  readonly overwrite?: boolean | undefined;
}

export interface PartFileOptions extends TargetOptions {
  /** Bytes that will be written, as far as that is known: refused at once where the disk has fewer. */
  readonly expectedBytes?: number | undefined;
  /** What its name has behind it until it is complete. Default `.part`. */
  readonly suffix?: string | undefined;
}

/**
 * A file that appears under its name only when it is complete. Until then it is `NAME.part`, under the lock
 * `NAME.part.lock`, and grows with what is written: nothing is allocated ahead.
 */
export class PartFile {
  #handle: FileHandle | undefined;
  #identity: Stats | undefined;
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
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  /**
   * Refuses what cannot work before anything is taken, then creates the part file.
   * @throws TensorwireError `TARGET_EXISTS`, `TARGET_BUSY`, `TARGET_FULL`, `TARGET_WRITE`.
   */
  static async open(
    path: string,
    { overwrite = false, expectedBytes = 0, suffix = ".part" }: PartFileOptions = {},
  ): Promise<PartFile> {
    const target = await resolveTarget(path);
    await refuseTaken(target, overwrite);
    await refuseFull(target, expectedBytes);
    const part = `${target}${suffix}`;
    const lock = await Lock.take(`${part}.lock`, target);
    try {
      // Again, under the lock: another receiver may just have finished.
      await refuseTaken(target, overwrite);
      return new PartFile(target, part, overwrite, lock, await createPart(part, overwrite || lock.inherited));
    } catch (cause) {
      await lock.release();
      throw targetError(cause, target);
    }
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
      await sync(handle);
      this.#identity = await handle.stat();
    });
    await this.#attempt(() => this.#close());
  }

  /** The second third: gives it its name. */
  async publish(): Promise<void> {
    const { part } = this;
    await this.#attempt(async () => {
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

  /** Leaves nothing behind, unless it is finished. Waits for what is under way; never rejects. */
  abort(): Promise<void> {
    this.#aborting ??= this.#abort();
    return this.#aborting;
  }

  async #abort(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await this.#close().catch(() => {});
    if (this.#released) return;
    await unlink(this.part).catch(() => {});
    if (this.#naming) await this.#withdraw().catch(() => {});
    await this.lock.release();
  }

  /** Takes back the name: other files that should have appeared with this one did not, or it is not known to be durable. */
  async #withdraw(): Promise<void> {
    const { dev, ino } = await lstat(this.path);
    // What has the name may be what was there before, or somebody else's.
    if (dev === this.#identity?.dev && ino === this.#identity.ino) await unlink(this.path);
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }
}

/** Creates `NAME.part`: always a new file, so that nothing that was put there is followed, shared or added to. */
async function createPart(part: string, replace: boolean): Promise<FileHandle> {
  if (replace) {
    await unlink(part).catch((error) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }
  try {
    return await open(part, "wx");
  } catch (cause) {
    if (!isErrno(cause, "EEXIST")) throw cause;
    const message = `${quote(part)} is in the way, and nobody of ours is writing it: remove it, or pass --overwrite (overwrite: true)`;
    throw new TensorwireError("TARGET_EXISTS", message, { cause });
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

const NO_SYNC = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EPERM", "EISDIR", "EACCES"];

async function sync(handle: FileHandle): Promise<void> {
  try {
    await handle.sync();
  } catch (error) {
    // Some network and user-space file systems have no such call.
    if (!isErrno(error, "EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS")) throw error;
  }
}

/** Makes names durable. Where folders cannot be opened or synced (Windows, some file systems) the system sees to it. */
async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await open(path, "r");
    await folder.sync();
  } catch (error) {
    if (!isErrno(error, ...NO_SYNC)) throw error;
  } finally {
    await folder?.close();
  }
}
