import { link, lstat, readdir, realpath, statfs, unlink } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { quote, TensorwireError } from "@tensorwire/core";
import { JOURNAL_SUFFIX, PART_SUFFIX } from "../journal/leftover.js";
import { UploadFolder } from "../server/upload-folder.js";
import { refuseTaken } from "../sink/destination.js";
import { Lock } from "../sink/lock.js";
import { targetError } from "../sink/target-error.js";
import { fileFault } from "../source/file-fault.js";
import { safetensorsSource } from "../source/safetensors.js";
import type { ModelSource } from "../source/source.js";
import { OWN_FOLDER, takeExchange } from "./exchange-mark.js";

const MODEL = ".safetensors";

/** What is swept: of other files that lie there nobody has said that the agent may have them. */
const LEFT = /\.safetensors(?:\.part(?:\..*)?)?$/;

/** File systems in memory, by their numbers in `statfs`: tmpfs, ramfs. */
const IN_MEMORY: readonly number[] = [0x01021994, 0x858458f6];

export interface ExchangeOptions {
  /** Made where there is none; one that is there is empty, or marked by an agent. */
  readonly path: string;
  /** Folders beside it whose files may be published, and fetched to. */
  readonly allow: readonly string[];
  /** Space that stays free. */
  readonly reserveBytes: number;
}

export interface ExchangeSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** It is in memory: what lies there takes as much of that. */
  readonly memory: boolean;
}

/** Where model files change hands between a program and the agent, and what of it is the agent's. */
export class Exchange {
  private constructor(
    /** Without links. */
    readonly path: string,
    private readonly roots: readonly UploadFolder[],
    readonly reserveBytes: number,
  ) {}

  /**
   * @throws TensorwireError `TARGET_EXISTS` where others have files, `FORBIDDEN`, `TARGET_WRITE`; `TARGET_FULL` where there is less
   * space than is to stay free.
   */
  static async open({ path, allow, reserveBytes }: ExchangeOptions): Promise<Exchange> {
    await takeExchange(path);
    const own = await UploadFolder.open(path);
    const others = await Promise.all(allow.map((folder) => UploadFolder.open(folder)));
    const exchange = new Exchange(own.path, [own, ...others], reserveBytes);
    await exchange.checkRoom(0);
    return exchange;
  }

  /** Files of the agent's own. */
  own(file: string): string {
    return join(this.path, OWN_FOLDER, file);
  }

  async ownFiles(): Promise<string[]> {
    return readdir(join(this.path, OWN_FOLDER));
  }

  /** The file that a fetch goes to where the program names none. */
  fetched(id: string): string {
    return join(this.path, id + MODEL);
  }

  /** @throws TensorwireError `TARGET_EXISTS` where the file of a fetch of that id is not a fetch's, but a program's. */
  async refuseFetched(id: string): Promise<void> {
    const path = this.fetched(id);
    if (!(await lstat(path).catch(() => undefined))) return;
    const message = `${quote(path)} is a program's, and a fetch of the id ${quote(id)} would replace it: take another id, or say where it goes`;
    throw new TensorwireError("TARGET_EXISTS", message);
  }

  async space(): Promise<ExchangeSpace> {
    const { bavail, blocks, bsize, type } = await statfs(this.path).catch((cause) => {
      throw targetError(cause, this.path);
    });
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, memory: IN_MEMORY.includes(type) };
  }

  /** @throws TensorwireError `TARGET_FULL` where so much more would leave less than is to stay free. */
  async checkRoom(bytes: number): Promise<void> {
    const { freeBytes, memory } = await this.space();
    if (freeBytes - bytes >= this.reserveBytes) return;
    const kind = memory ? ", which is in memory," : "";
    const message =
      `the exchange directory ${quote(this.path)}${kind} has ${freeBytes} bytes free: ${bytes} are to go there, and ` +
      `${this.reserveBytes} are to stay free (--reserve): free models and fetched files, or choose another directory (--exchange)`;
    throw new TensorwireError("TARGET_FULL", message);
  }

  /**
   * A file that a program hands over.
   * @throws TensorwireError `FORBIDDEN` for a path that leads elsewhere, `INVALID_ARGUMENT`, `SOURCE_READ`.
   */
  async source(given: string): Promise<HandedFile> {
    if (!given.endsWith(MODEL)) throw noModel(given);
    const { root, path } = await this.#placed(given, unreadable);
    const stats = await lstat(path).catch((cause) => {
      throw fileFault(cause, path, "read");
    });
    // Whatever it links to could be another file by the time that it is read, or removed.
    if (!stats.isFile()) throw new TensorwireError("FORBIDDEN", `${quote(given)} is no plain file`);
    return { path, bytes: stats.size, open: () => safetensorsSource(path, { within: root.path }) };
  }

  /**
   * Where a program wants a fetched model.
   * @throws TensorwireError `FORBIDDEN` for a path that leads elsewhere, `INVALID_ARGUMENT`.
   */
  async target(given: string): Promise<HandedPlace> {
    if (!given.endsWith(MODEL)) throw noModel(given);
    const { root, path } = await this.#placed(given, targetError);
    const name = relative(root.path, path).split(sep).join("/");
    return { path, folder: root, name, refuseTaken: () => refuseTaken(path, false) };
  }

  /** The folder that the path lies in, whichever way it leads there. */
  async #placed(
    given: string,
    fault: (cause: unknown, path: string) => TensorwireError,
  ): Promise<{ readonly root: UploadFolder; readonly path: string }> {
    const asked = resolve(this.path, given);
    const folder = await realpath(dirname(asked)).catch((cause) => {
      // Nothing is said of folders that are none of ours.
      if (!this.roots.some((root) => inside(root.path, asked))) throw outside(given);
      throw fault(cause, asked);
    });
    const path = join(folder, basename(asked));
    const root = this.roots.find((each) => inside(each.path, path));
    if (!root || inside(join(this.path, OWN_FOLDER), path)) throw outside(given);
    return { root, path };
  }

  /** A file that was a program's is so again, unless there is another one in its place by now. Never rejects. */
  async giveBack(from: string, given: string): Promise<void> {
    try {
      const { path } = await this.#placed(given, unreadable);
      await link(from, path);
      await unlink(from);
    } catch {
      // It was not taken, or is not missed.
    }
  }

  /** Removes a file, complete or not. Never rejects. */
  async discard(path: string): Promise<void> {
    await unlink(path).catch(() => {});
    await this.discardPart(path);
  }

  /**
   * Removes what a transfer left of a file that is not complete, unless another one is writing it. What has no journal, and was not
   * being written by a process that died, is no transfer's. Never rejects.
   */
  async discardPart(path: string): Promise<void> {
    const part = path + PART_SUFFIX;
    const journal = part + JOURNAL_SUFFIX;
    const lock = await Lock.take(`${part}.lock`, path).catch(() => undefined);
    if (!lock) return;
    const ours = lock.inherited || (await lstat(journal).catch(() => undefined)) !== undefined;
    if (ours) for (const each of [part, journal]) await unlink(each).catch(() => {});
    await lock.release();
  }

  /**
   * Removes model files that programs have left, complete or not: those of the exchange directory itself, and of no folder below.
   * @param inUse Whether a file is a transfer's.
   */
  async sweep(before: number, inUse: (path: string) => boolean): Promise<void> {
    for (const name of await readdir(this.path)) {
      const path = join(this.path, name);
      if (!LEFT.test(name) || inUse(path)) continue;
      const stats = await lstat(path).catch(() => undefined);
      if (stats && !stats.isDirectory() && Math.max(stats.mtimeMs, stats.ctimeMs) < before) {
        await unlink(path).catch(() => {});
      }
    }
  }
}

/** A file that a program has handed over. */
export interface HandedFile {
  readonly path: string;
  readonly bytes: number;
  /** Opened for each attempt anew; looked at again then, for where it lies. */
  open(): ModelSource;
}

/** A place that a program has named. */
export interface HandedPlace {
  readonly path: string;
  readonly folder: UploadFolder;
  /** In that folder. */
  readonly name: string;
  /** @throws TensorwireError `TARGET_EXISTS`, `TARGET_WRITE`. */
  refuseTaken(): Promise<void>;
}

const unreadable = (cause: unknown, path: string): TensorwireError => fileFault(cause, path, "read");

const inside = (folder: string, path: string): boolean =>
  path.startsWith(folder.endsWith(sep) ? folder : folder + sep);

function noModel(path: string): TensorwireError {
  const message = `${quote(path)} is no path of a safetensors file: it ends in ${MODEL}`;
  return new TensorwireError("INVALID_ARGUMENT", message);
}

function outside(path: string): TensorwireError {
  const message = `${quote(path)} is not in the exchange directory, nor in one that is allowed (--allow)`;
  return new TensorwireError("FORBIDDEN", message);
}
