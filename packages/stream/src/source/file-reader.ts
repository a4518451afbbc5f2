import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type Answer, type BufferPool, type Loan, quote, TensorwireError } from "@tensorwire/core";
import type { ByteReader } from "./byte-reader.js";
import { checkWithin } from "./confinement.js";
import { fileFault } from "./file-fault.js";
import { checkVersion, type FileVersion, fileVersion, versionToken } from "./file-version.js";
import { SharedLoan } from "./shared-loan.js";
import { READ_AHEAD_BYTES } from "./source.js";

/** Reads of this size and more go straight into their buffer; smaller ones share a block that is read ahead. */
export const DIRECT_READ_BYTES = 256 * 1024;

/** The first block of a run of small reads: one small tensor between two large ones should not cost a megabyte. */
const FIRST_BLOCK_BYTES = 64 * 1024;

/** Node refuses a read of 2^31 bytes or more. */
const MAX_READ_BYTES = 1024 * 1024 * 1024;

// A pipe would block `open` until somebody writes to it; with this flag it opens, and is then refused.
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** A part of the file in memory. */
interface Block {
  readonly position: number;
  readonly shared: SharedLoan;
}

/** A file that is read by position. */
export class FileReader implements ByteReader {
  readonly size: number;
  #block: Block | undefined;
  /** Where the last block ended, and how many bytes the next one takes if reading goes on from there. */
  #end = 0;
  #ahead = FIRST_BLOCK_BYTES;
  #closed = false;

  private constructor(
    /** Its path. */
    readonly name: string,
    private readonly handle: FileHandle,
    /** The file's state when it was opened. */
    readonly state: FileVersion,
  ) {
    this.size = Number(state.size);
  }

  get version(): string {
    return versionToken([this.state]);
  }

  /**
   * @param expected The state that the file must be in, when it is opened again.
   * @param within The folder, without links, in which the file must lie.
   * @throws TensorwireError `SOURCE_READ`, `SOURCE_INVALID` for what is no regular file, `SOURCE_CHANGED`.
   */
  static async open(path: string, expected?: FileVersion, within?: string): Promise<FileReader> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, OPEN_FLAGS);
      const stats = await handle.stat({ bigint: true });
      if (!stats.isFile()) {
        const what = stats.isDirectory() ? "a directory" : "no regular file";
        throw new TensorwireError(
          "SOURCE_INVALID",
          `${quote(path)} is ${what}: it cannot be read by position`,
        );
      }
      if (within !== undefined) await checkWithin(within, path, handle);
      const state = fileVersion(stats);
      if (expected) checkVersion(path, expected, state);
      return new FileReader(path, handle, state);
    } catch (error) {
      await handle?.close();
      throw fileFault(error, path, "opened");
    }
  }

  read(position: number, bytes: number, pool: BufferPool): Answer<Loan> {
    const block = this.#block;
    if (block && position >= block.position && position + bytes <= this.#end) {
      return this.#part(block, position, bytes);
    }
    // Reading goes forward: what lies before is not asked for again, and would keep a slab of the pool.
    this.forget();
    if (bytes >= DIRECT_READ_BYTES) return this.#load(position, bytes, pool);
    return this.#readAhead(position, bytes, pool);
  }

  async #readAhead(position: number, bytes: number, pool: BufferPool): Promise<Loan> {
    const goesOn = position >= this.#end && position - this.#end <= this.#ahead;
    this.#ahead = goesOn && this.#end > 0 ? Math.min(this.#ahead * 2, READ_AHEAD_BYTES) : FIRST_BLOCK_BYTES;
    const ahead = Math.min(this.#ahead, pool.slabBytes, this.size - position);
    const loan = await this.#load(position, Math.max(bytes, ahead), pool);
    const block = { position, shared: new SharedLoan(loan) };
    this.#end = position + loan.bytes.length;
    this.#block = block;
    const part = this.#part(block, position, bytes);
    if (this.#closed) this.forget();
    return part;
  }

  #part({ position: begin, shared }: Block, position: number, bytes: number): Loan {
    const part = shared.part(position - begin, position - begin + bytes);
    if (position + bytes === this.#end) this.forget();
    return part;
  }

  async #load(position: number, bytes: number, pool: BufferPool): Promise<Loan> {
    const loan = pool.lend(bytes);
    try {
      await this.readInto(position, loan.bytes);
      return loan;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async readInto(position: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const length = Math.min(target.length - done, MAX_READ_BYTES);
      const { bytesRead } = await this.handle
        .read(target, done, length, position + done)
        .catch((error) => Promise.reject(fileFault(error, this.name, "read")));
      if (bytesRead === 0) throw this.#ended(position + done);
      done += bytesRead;
    }
  }

  #ended(position: number): TensorwireError {
    return new TensorwireError(
      "SOURCE_CHANGED",
      `${quote(this.name)} ends at byte ${position}, though it had ${this.size} bytes when it was opened`,
    );
  }

  forget(): void {
    const block = this.#block;
    this.#block = undefined;
    block?.shared.release();
  }

  async verify(): Promise<void> {
    const stats = await this.handle
      .stat({ bigint: true })
      .catch((error) => Promise.reject(fileFault(error, this.name, "read")));
    checkVersion(this.name, this.state, fileVersion(stats));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.forget();
    await this.handle.close();
  }
}
