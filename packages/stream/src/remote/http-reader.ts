import { createHash, type Hash } from "node:crypto";
import { type BufferPool, type Loan, TensorwireError } from "@tensorwire/core";
import type { ByteRange, ByteReader } from "../source/byte-reader.js";
import { ReadAhead } from "./read-ahead.js";
import { WebFile, type WebFileOptions } from "./web-file.js";
import { WebRanges, withoutRanges } from "./web-ranges.js";

/** What a file is read in that is read again to be compared. */
const COMPARED_BYTES = 256 * 1024;

/** Fetched at once, since it is what an artifact is opened by: footer, and index of a model of some gigabytes. */
export const TAIL_BYTES = 64 * 1024;

export interface HttpReaderOptions extends WebFileOptions {
  /** Bytes that are fetched ahead of what is asked for. */
  readonly readAheadBytes: number;
  /** A server that knows no ranges is refused: else its file is read forward, as often as it takes. */
  readonly rangesOnly?: boolean | undefined;
  /** Ends whatever is under way. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes that were read into the caller's memory, and what they were. */
interface Noted extends ByteRange {
  readonly digest: Uint8Array;
}

/**
 * Reads a file on any web server by position, over Range requests. What is read by `readInto`, before anything else, is what the
 * file is known by: an artifact's index, which holds the hashes of all that it has besides.
 */
export class HttpReader implements ByteReader {
  readonly readAheadBytes: number;
  readonly #ranges: WebRanges;
  readonly #ahead: ReadAhead;
  readonly #closing = new AbortController();
  readonly #noted: Noted[] = [];
  /** The last bytes of the file, until it is known what else is read. */
  #tail: Uint8Array = new Uint8Array();
  readonly #running = new Set<Promise<unknown>>();
  readonly #onAbort = (): void => this.#end(this.options.signal!.reason);

  private constructor(
    private readonly file: WebFile,
    private readonly options: HttpReaderOptions,
  ) {
    const { idleTimeoutMs, concurrency, readAheadBytes, signal } = options;
    this.readAheadBytes = readAheadBytes;
    this.#ranges = new WebRanges(file, idleTimeoutMs);
    this.#ahead = new ReadAhead((position, target, until) => this.#ranges.read(position, target, until), {
      concurrency,
      bytes: readAheadBytes,
    });
    if (signal?.aborted) this.#onAbort();
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`, `IDLE_TIMEOUT`, `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`,
   * `SERVER_BUSY`; `SOURCE_INVALID` where the file's length is not known.
   */
  static async open(url: string, options: HttpReaderOptions): Promise<HttpReader> {
    const file = new WebFile(url, options);
    const reader = new HttpReader(file, options);
    try {
      await reader.#open();
      return reader;
    } catch (error) {
      await reader.close();
      throw error;
    }
  }

  async #open(): Promise<void> {
    const { file } = this;
    await file.open(this.#closing.signal);
    const { rangesOnly = false } = this.options;
    if (rangesOnly && !file.ranged) throw withoutRanges(file.name);
    // All of the file would be read for it, and again for what comes before.
    if (!file.ranged) return;
    this.#ranges.forward = !rangesOnly;
    const tail = new Uint8Array(Math.min(TAIL_BYTES, file.size));
    await this.#fill(file.size - tail.length, tail);
    this.#ranges.forward = true;
    this.#tail = tail;
  }

  /** The last bytes of the file, as many as were fetched when it was opened. */
  get tail(): Uint8Array {
    return this.#tail;
  }

  get name(): string {
    return this.file.name;
  }

  get size(): number {
    return this.file.size;
  }

  /** By what the file is known by, not by its server's word: mirrors agree on that, and a server forgets nothing of it. */
  get version(): string {
    const hash = createHash("sha256").update(`${this.size}\n`);
    for (const noted of this.#noted) note(hash, noted);
    return hash.digest("hex").slice(0, 32);
  }

  get unvouched(): boolean {
    return !this.file.tagged;
  }

  read(position: number, bytes: number, pool: BufferPool): Promise<Loan> {
    return this.#ahead.take(position, bytes, pool) ?? this.#load(position, bytes, pool);
  }

  async #load(position: number, bytes: number, pool: BufferPool): Promise<Loan> {
    const loan = pool.lend(bytes);
    try {
      await this.#fill(position, loan.bytes);
      return loan;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async readInto(position: number, target: Uint8Array): Promise<void> {
    const tail = position - (this.size - this.#tail.length);
    if (tail >= 0) target.set(this.#tail.subarray(tail, tail + target.length));
    else await this.#fill(position, target);
    const digest = createHash("sha256").update(target).digest();
    this.#noted.push({ position, bytes: target.length, digest });
  }

  #fill(position: number, target: Uint8Array): Promise<void> {
    const running = this.#ranges.read(position, target, this.#closing.signal).finally(() => {
      this.#running.delete(running);
    });
    this.#running.add(running);
    return running;
  }

  expect(ranges: Iterable<ByteRange>): void {
    this.#tail = new Uint8Array();
    this.#ahead.expect(ranges);
  }

  forget(): void {
    this.#ahead.forget(new TensorwireError("ABORTED", "the bytes are not read any more"));
  }

  /**
   * Where the server vouches for the file's state, every answer was of the one that was opened. Else what the file is known by
   * is read again.
   */
  async verify(): Promise<void> {
    if (this.file.tagged) return;
    const buffer = new Uint8Array(COMPARED_BYTES);
    for (const { position, bytes, digest } of this.#noted) {
      const hash = createHash("sha256");
      for (let at = 0; at < bytes; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, bytes - at));
        await this.#fill(position + at, part);
        hash.update(part);
      }
      if (hash.digest().equals(digest)) continue;
      const message = `${this.name} changed while it was being read: its index is another one`;
      throw new TensorwireError("SOURCE_CHANGED", message);
    }
  }

  /** Ends every request; resolves when no memory is out that nobody has asked for. Idempotent. */
  async close(): Promise<void> {
    this.#end(new TensorwireError("ABORTED", `${this.name} was closed`));
    await Promise.allSettled([...this.#running, this.#ahead.idle()]);
  }

  #end(reason: Error): void {
    this.options.signal?.removeEventListener("abort", this.#onAbort);
    this.#closing.abort(reason);
    this.#ahead.forget(reason);
    this.#ranges.close();
    this.file.close();
  }
}

function note(hash: Hash, { position, bytes, digest }: Noted): void {
  hash.update(`${position} ${bytes} `).update(digest);
}
