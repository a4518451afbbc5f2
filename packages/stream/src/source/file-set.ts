import type { BufferPool, Loan } from "@tensorwire/core";
import { FileReader } from "./file-reader.js";
import { type FileVersion, verifyFile, versionToken } from "./file-version.js";

/** Models come in hundreds of shards; a process may have as few as 256 files open. */
const MAX_OPEN_FILES = 16;

/**
 * The files of a model that is made of several: each is known by its place, opened when it is read, and must then be in
 * the state in which it was added.
 */
export class FileSet {
  readonly #files: { readonly path: string; readonly version: FileVersion }[] = [];
  /** The one that was used last stands last. */
  readonly #open = new Map<number, FileReader>();
  #last: FileReader | undefined;
  #closed = false;

  /** @param within The folder, without links, in which all files must lie. */
  constructor(private readonly within?: string) {}

  /** The version token of all of them. */
  get version(): string {
    return versionToken(this.#files.map(({ version }) => version));
  }

  /** Opens a file and adds it, at the next place. */
  async add(path: string): Promise<FileReader> {
    const reader = await FileReader.open(path, undefined, this.within);
    return this.#use(this.#files.push({ path, version: reader.state }) - 1, reader);
  }

  /** Adds a file that was read already, so that `verify` looks at it too. */
  watch(path: string, version: FileVersion): void {
    this.#files.push({ path, version });
  }

  /** @throws TensorwireError as `FileReader.read`, and `SOURCE_CHANGED` where the file has to be opened again and differs. */
  read(file: number, position: number, bytes: number, pool: BufferPool): Loan | Promise<Loan> {
    if (this.#last && this.#open.get(file) === this.#last) return this.#last.read(position, bytes, pool);
    return this.#reader(file).then((reader) => reader.read(position, bytes, pool));
  }

  async readInto(file: number, position: number, target: Uint8Array): Promise<void> {
    const reader = await this.#reader(file);
    await reader.readInto(position, target);
  }

  async #reader(file: number): Promise<FileReader> {
    const known = this.#open.get(file);
    if (known) return this.#use(file, known);
    const { path, version } = this.#files[file]!;
    return this.#use(file, await FileReader.open(path, version, this.within));
  }

  async #use(file: number, reader: FileReader): Promise<FileReader> {
    this.#open.delete(file);
    this.#open.set(file, reader);
    // What was read ahead of one file would keep memory of the pool while others are read.
    if (this.#last !== reader) this.#last?.forget();
    this.#last = reader;
    const [oldest] = this.#open;
    if (this.#closed) await reader.close();
    else if (oldest && this.#open.size > MAX_OPEN_FILES) {
      this.#open.delete(oldest[0]);
      await oldest[1].close();
    }
    return reader;
  }

  /** @throws TensorwireError `SOURCE_CHANGED` where a file is not as it was when it was added. */
  async verify(): Promise<void> {
    for (const { path, version } of this.#files) await verifyFile(path, version);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open.values()].map((reader) => reader.close()));
    this.#open.clear();
  }
}
