import { expect } from "vitest";
import type { Channel, ChannelReceiver } from "../channel.js";
import { firstDifference } from "./equality.js";
import { pseudoRandom } from "./samples.js";

export const KiB = 1024;
/** Nothing here takes long: what has not happened by then never will. */
export const PATIENCE_MS = 10_000;

/** A receiver that keeps what comes, and writes down what must not. */
export class Recorder implements ChannelReceiver {
  readonly faults: string[] = [];
  readonly ended: Promise<{ readonly error: Error | undefined }>;
  #bytes = new Uint8Array(64 * KiB);
  #length = 0;
  #over = false;
  #end!: (end: { readonly error: Error | undefined }) => void;
  #change: (() => void) | undefined;

  constructor(private readonly onBytes?: (portion: Uint8Array) => void) {
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  bytes(portion: Uint8Array): void {
    if (this.#over) this.faults.push(`${portion.length} bytes after the end`);
    if (!(portion instanceof Uint8Array)) this.faults.push("a portion that is not bytes");
    if (this.#length + portion.length > this.#bytes.length) {
      const grown = new Uint8Array(2 * (this.#length + portion.length));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    // The portion is lent for the call only.
    this.#bytes.set(portion, this.#length);
    this.#length += portion.length;
    this.onBytes?.(portion);
    this.#change?.();
  }

  end(error?: Error): void {
    if (this.#over) this.faults.push("a second end");
    if (error !== undefined && !(error instanceof Error)) this.faults.push("an end with what is no error");
    this.#over = true;
    this.#end({ error });
    this.#change?.();
  }

  /** Resolves when exactly `expected` has come. */
  async expect(expected: Uint8Array): Promise<void> {
    const enough = async (): Promise<void> => {
      while (this.#length < expected.length && !this.#over) {
        await new Promise<void>((resolve) => {
          this.#change = resolve;
        });
      }
    };
    await within(enough(), `${expected.length} bytes`).catch((error: Error) => {
      throw new Error(`${error.message}; ${this.#length} have come`);
    });
    expect(this.#length, "bytes that came").toBe(expected.length);
    this.expectPrefix(expected);
  }

  /** Checks that what has come so far is the beginning of `expected`. */
  expectPrefix(expected: Uint8Array): void {
    const came = this.#bytes.subarray(0, this.#length);
    expect(firstDifference(came, expected.subarray(0, came.length)), "first byte that differs").toBe(-1);
  }
}

/** Closes a channel when its peer has, as a session does. */
export function follow(channel: Channel, receiver: Recorder): void {
  void receiver.ended.then(() => channel.close());
}

export class Impatience extends Error {}

export async function within<T>(work: Promise<T>, what: string, milliseconds = PATIENCE_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Impatience(`waited ${milliseconds} ms for ${what}`)), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const all = <T>(work: readonly Promise<T>[]): Promise<T[]> => within(Promise.all(work), "all of it");
export const settled = (work: readonly Promise<void>[]) => Promise.allSettled(work);
export const pause = (milliseconds: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Bytes in which a piece that is missing, doubled or moved shows. */
export function pattern(length: number, seed: number): Uint8Array {
  const random = pseudoRandom(seed);
  const bytes = new Uint8Array(length);
  const words = new Uint32Array(Math.min(length, 4096)).map(() => random() * 2 ** 32);
  for (let i = 0; i < length; i++) bytes[i] = words[i % words.length]! + (i >>> 12);
  return bytes;
}

/** More than any wire holds, in parts of a size. */
export function many(size: number): Uint8Array[] {
  const part = pattern(size, 77);
  return Array.from({ length: Math.ceil((24 * KiB * KiB) / size) }, () => part);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
