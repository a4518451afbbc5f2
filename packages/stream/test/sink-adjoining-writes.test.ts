import { describe, expect, test } from "vitest";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { AdjoiningWrites } from "../src/sink/adjoining-writes.js";
import { noise } from "./sink-fixture.js";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Remembers what it was given; `held` writes wait until they are let go. */
class Recorder {
  readonly writes: { position: number; length: number; buffer: ArrayBufferLike }[] = [];
  readonly content: Uint8Array;
  readonly waiting: Deferred<void>[] = [];
  held = false;

  constructor(size: number) {
    this.content = new Uint8Array(size);
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    this.writes.push({ position, length: bytes.length, buffer: bytes.buffer });
    if (this.held) {
      const turn = deferred<void>();
      this.waiting.push(turn);
      await turn.promise;
    }
    // Late, as a disk does: the bytes must still be there.
    await new Promise((resolve) => setImmediate(resolve));
    this.content.set(bytes, position);
  }
}

async function fill(target: Recorder, data: Uint8Array, size: number): Promise<number> {
  const writes = new AdjoiningWrites();
  let copied = 0;
  for (let at = 0; at < data.length; at += size) {
    const lent = data.slice(at, at + size);
    const written = writes.write(target, at, lent);
    if (written) await written;
    else copied++;
    lent.fill(0xee);
  }
  await writes.flush();
  return copied;
}

describe("writes that adjoin", () => {
  test("are joined: 10,000 of 1 KiB are ten", async () => {
    const data = noise(10_000 * KiB, 1);
    const target = new Recorder(data.length);
    await fill(target, data, KiB);
    expect(target.writes.length).toBe(10);
    expect(Math.max(...target.writes.map(({ length }) => length))).toBe(MiB);
    expect(Buffer.compare(target.content, data)).toBe(0);
  });

  test("go through two buffers, however many there are", async () => {
    const data = noise(8 * MiB, 2);
    const target = new Recorder(data.length);
    await fill(target, data, 10 * KiB);
    expect(new Set(target.writes.map(({ buffer }) => buffer)).size).toBe(2);
    expect(Buffer.compare(target.content, data)).toBe(0);
  });

  test("of odd sizes lose nothing", async () => {
    for (const size of [1, 7, 4097, 255 * KiB, 256 * KiB - 1, 256 * KiB, 300_001]) {
      const data = noise(Math.min(size * 1000, 3 * MiB + 13), size);
      const target = new Recorder(data.length);
      await fill(target, data, size);
      expect(Buffer.compare(target.content, data)).toBe(0);
    }
  });

  test("are copied only where they are small; large ones are written as they are", async () => {
    const target = new Recorder(2 * MiB);
    const writes = new AdjoiningWrites();
    expect(writes.write(target, 0, noise(KiB, 1))).toBeUndefined();
    const large = noise(256 * KiB, 2);
    const written = writes.write(target, KiB, large);
    expect(written).toBeInstanceOf(Promise);
    // What was collected goes out with it.
    expect(target.writes.map(({ position, length }) => [position, length])).toEqual([
      [0, KiB],
      [KiB, 256 * KiB],
    ]);
    expect(target.writes[1]!.buffer).toBe(large.buffer);
    await written;
    await writes.flush();
    expect(target.writes.length).toBe(2);
  });

  test("are not joined where they do not adjoin, or go to another file", async () => {
    const one = new Recorder(MiB);
    const other = new Recorder(MiB);
    const writes = new AdjoiningWrites();
    await writes.write(one, 0, noise(KiB, 1));
    await writes.write(one, 2 * KiB, noise(KiB, 2));
    await writes.write(other, 3 * KiB, noise(KiB, 3));
    await writes.flush();
    expect(one.writes.map(({ position }) => position)).toEqual([0, 2 * KiB]);
    expect(other.writes.map(({ position }) => position)).toEqual([3 * KiB]);
    expect(Buffer.compare(one.content.subarray(2 * KiB, 3 * KiB), noise(KiB, 2))).toBe(0);
  });

  test("wait where both buffers are taken", async () => {
    const data = noise(4 * MiB, 4);
    const target = new Recorder(data.length);
    target.held = true;
    const writes = new AdjoiningWrites();
    const size = 128 * KiB;
    let at = 0;
    const put = (): Promise<void> | undefined => {
      const written = writes.write(target, at, data.subarray(at, at + size));
      at += size;
      return written;
    };
    while (at < 2 * MiB) expect(put()).toBeUndefined();
    expect(target.writes.length).toBe(2);
    let settled = 0;
    const waiting = [put(), put(), put()].map((written) => written!.then(() => settled++));
    await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toBe(0);
    target.held = false;
    target.waiting.shift()!.resolve();
    await Promise.all(waiting);
    while (at < data.length) await put();
    let flushed = false;
    const flushing = writes.flush().then(() => (flushed = true));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(flushed).toBe(false);
    target.waiting.shift()!.resolve();
    await flushing;
    expect(Buffer.compare(target.content, data)).toBe(0);
  });

  test("that fail fail what comes after, and the flush, with the first cause", async () => {
    const cause = new Error("full");
    const target = { write: () => Promise.reject(cause) };
    const writes = new AdjoiningWrites();
    expect(writes.write(target, 0, noise(KiB, 1))).toBeUndefined();
    await expect(writes.flush()).rejects.toBe(cause);
    await expect(writes.write(target, KiB, noise(KiB, 1))).rejects.toBe(cause);
    await expect(writes.flush()).rejects.toBe(cause);
  });

  test("that wait for a buffer fail with the write that had it", async () => {
    const turn = deferred<void>();
    const target = { write: () => turn.promise };
    const writes = new AdjoiningWrites();
    const chunk = noise(128 * KiB, 1);
    let at = 0;
    let waiting: Promise<void> | undefined;
    while (!waiting) {
      waiting = writes.write(target, at, chunk);
      at += chunk.length;
    }
    expect(at).toBe(2 * MiB + chunk.length);
    const after = writes.write(target, at, chunk)!;
    const cause = new Error("full");
    turn.reject(cause);
    await expect(waiting).rejects.toBe(cause);
    await expect(after).rejects.toBe(cause);
    await expect(writes.flush()).rejects.toBe(cause);
  });
});
