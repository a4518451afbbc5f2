import type { Answer } from "@tensorwire/core";
import { type Deferred, deferred } from "./deferred.js";

interface Item<T> {
  readonly bytes: number;
  readonly job: Answer<T>;
}

/**
 * Jobs that run side by side and come out in the order in which they went in, bounded in bytes. One reader, one writer.
 * An item that is in the lane owns its buffers: whoever fails the lane drains it.
 */
export class Lane<T> {
  readonly #items: Item<T>[] = [];
  #head = 0;
  #bytes = 0;
  #closed = false;
  #failed: { readonly error: unknown } | undefined;
  #change: Deferred<void> | undefined;

  /** @param maxBytes Room for jobs; a job larger than that still enters an empty lane. */
  constructor(
    readonly maxBytes: number,
    readonly maxItems = 1024,
  ) {}

  /** Whether `next` would have to wait. */
  get empty(): boolean {
    return this.#head === this.#items.length;
  }

  /** Resolves when there is room for `bytes` more. */
  async room(bytes: number): Promise<void> {
    while (!this.fits(bytes)) await this.#changed();
    this.#check();
  }

  /** Whether `room` would resolve at once. */
  fits(bytes: number): boolean {
    const count = this.#items.length - this.#head;
    if (this.#failed || count === 0) return true;
    return count < this.maxItems && this.#bytes + bytes <= this.maxBytes;
  }

  /** Puts a job at the end, without waiting. */
  put(bytes: number, job: Answer<T>): void {
    // Failures are seen by the reader, in turn: until then they are not unhandled.
    if (job instanceof Promise) job.catch(() => {});
    this.#items.push({ bytes, job });
    this.#bytes += bytes;
    this.#wake();
  }

  /** No more jobs will be put. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Everyone who waits, and every later call, gets `error`. The first one stays. */
  fail(error: unknown): void {
    this.#failed ??= { error };
    this.#wake();
  }

  /** The next value, if it is there already: what `next` would take a turn of its own for. */
  take(): T | undefined {
    this.#check();
    const item = this.#items[this.#head];
    if (item === undefined || item.job instanceof Promise) return undefined;
    this.#shift();
    return item.job;
  }

  /** The next job's value, or `undefined` after the last. Rejects as the job does. */
  async next(): Promise<T | undefined> {
    while (this.empty && !this.#closed && !this.#failed) await this.#changed();
    this.#check();
    if (this.empty) return undefined;
    const item = this.#items[this.#head]!;
    // Awaited in its place, so that a failure of the lane finds it there and gives its buffers back.
    const value = await item.job;
    this.#check();
    this.#shift();
    return value;
  }

  #shift(): Item<T> {
    const item = this.#items[this.#head++]!;
    this.#bytes -= item.bytes;
    if (this.#head === this.#items.length || this.#head > 4096) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    this.#wake();
    return item;
  }

  /** Waits for every job that is still in the lane, and gives what succeeded to `dispose`. */
  async drain(dispose: (value: T) => void): Promise<void> {
    while (!this.empty) {
      const { job } = this.#shift();
      const settled = await Promise.resolve(job).then(
        (value) => ({ value }),
        () => undefined,
      );
      if (settled) dispose(settled.value);
    }
  }

  #check(): void {
    if (this.#failed) throw this.#failed.error;
  }

  #changed(): Promise<void> {
    this.#change ??= deferred<void>();
    return this.#change.promise;
  }

  #wake(): void {
    const change = this.#change;
    this.#change = undefined;
    change?.resolve();
  }
}
