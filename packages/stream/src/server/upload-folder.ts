import { lstat, mkdir, readdir, realpath, rmdir } from "node:fs/promises";
import { join, sep } from "node:path";
import { type Manifest, modelNameFault, modelNameKey, quote, TensorwireError } from "@tensorwire/core";
import { openSink, type SinkOptions } from "../sink/open.js";
import type { Sink } from "../sink/sink.js";
import { isErrno, targetError } from "../sink/target-error.js";

/** What an unfinished file has behind its name. */
const UNFINISHED = /\.part(?:\..*)?$/;

/**
 * The folder that peers' models are written to, and nothing outside it: names are checked, folders on the way are real ones,
 * and a name that some file system would take for another one's is refused.
 */
export class UploadFolder {
  /** Names that are being written, by what file systems may take for the same. */
  readonly #names = new Map<string, string>();
  #placing: Promise<unknown> = Promise.resolve();

  private constructor(
    /** Without links. */
    readonly path: string,
  ) {}

  /** @throws TensorwireError `TARGET_WRITE`. */
  static async open(path: string): Promise<UploadFolder> {
    try {
      const real = await realpath(path);
      if ((await lstat(real)).isDirectory()) return new UploadFolder(real);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw targetError(cause, path);
      const message = `there is no folder ${quote(path)} to take models into: create it, and start again`;
      throw new TensorwireError("TARGET_WRITE", message, { cause });
    }
    throw new TensorwireError("TARGET_WRITE", `cannot write to ${quote(path)}: it is no folder`);
  }

  /**
   * A sink for a model of that name. Folders of its path are made, and taken back where the upload fails.
   * @throws TensorwireError `FORBIDDEN` for a name that cannot be used here, `TARGET_BUSY`, `TARGET_WRITE`.
   */
  async sink(name: string, manifest: Manifest, options: SinkOptions): Promise<Sink> {
    // In turn: of two that look at the same folder, neither would see what the other is about to make there.
    const placed = this.#placing.then(() => this.#place(name, manifest, options));
    this.#placing = placed.catch(() => {});
    return placed;
  }

  async #place(name: string, manifest: Manifest, options: SinkOptions): Promise<Sink> {
    const fault = modelNameFault(name);
    if (fault !== undefined) throw refused(name, `it ${fault}`);
    const key = modelNameKey(name);
    const other = this.#names.get(key);
    if (other === name) throw new TensorwireError("TARGET_BUSY", `${quote(name)} is being written already`);
    if (other !== undefined)
      throw refused(name, "a name that differs only in case or normalization is being written");
    this.#names.set(key, name);
    const made: string[] = [];
    const giveUp = async (): Promise<void> => {
      this.#names.delete(key);
      const used = [...this.#names.values()].map((each) => join(this.path, each));
      for (const folder of made.splice(0).reverse()) {
        // One in which there is something by now stays, and so does one in which there will be.
        if (!used.some((path) => path.startsWith(folder + sep))) await rmdir(folder).catch(() => {});
      }
    };
    try {
      const folder = await this.#folder(name, made);
      const path = join(folder, name.slice(name.lastIndexOf("/") + 1));
      const sink = openSink(path, manifest, options);
      return this.#confined(sink, folder, name, { done: () => this.#names.delete(key), giveUp });
    } catch (error) {
      await giveUp();
      throw error;
    }
  }

  /** The folder that the last part of `name` goes into. */
  async #folder(name: string, made: string[]): Promise<string> {
    const segments = name.split("/");
    let folder = this.path;
    for (const [i, segment] of segments.entries()) {
      await refuseNeighbours(folder, segment, name);
      if (i === segments.length - 1) break;
      folder = join(folder, segment);
      await makeFolder(folder, name, made);
    }
    return folder;
  }

  /** Looked at again when the sink has its file, and before it gives it its name: a link may have taken a folder's place. */
  #confined(sink: Sink, folder: string, name: string, then: { done(): void; giveUp(): Promise<void> }): Sink {
    const { open, finish, abort } = sink;
    const check = async (): Promise<void> => {
      const real = await realpath(folder).catch((cause) => {
        throw targetError(cause, name);
      });
      if (real !== folder) throw refused(name, "a link has taken the place of its folder");
    };
    sink.open = async (model) => {
      await check();
      await open.call(sink, model);
      await check();
    };
    sink.finish = async (totals, digest) => {
      await check();
      await finish.call(sink, totals, digest);
      then.done();
    };
    sink.abort = async (error) => {
      await abort.call(sink, error);
      await then.giveUp();
    };
    return sink;
  }
}

/** Refuses a name beside one that some file system would take for the same. */
async function refuseNeighbours(folder: string, segment: string, name: string): Promise<void> {
  const key = modelNameKey(segment);
  const entries = await readdir(folder).catch((cause) => {
    throw targetError(cause, name);
  });
  for (const entry of entries) {
    const known = entry.replace(UNFINISHED, "");
    if (known === segment || modelNameKey(known) !== key) continue;
    throw refused(name, `there is ${quote(known)}, which differs only in case or normalization`);
  }
}

async function makeFolder(folder: string, name: string, made: string[]): Promise<void> {
  try {
    await mkdir(folder);
    made.push(folder);
  } catch (cause) {
    if (!isErrno(cause, "EEXIST")) throw targetError(cause, name);
  }
  // Not followed: a link could lead anywhere.
  if ((await lstat(folder)).isDirectory()) return;
  throw refused(name, "a part of its path is no folder");
}

function refused(name: string, why: string): TensorwireError {
  return new TensorwireError("FORBIDDEN", `${quote(name)} cannot be written here: ${why}`);
}
