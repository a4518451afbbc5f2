import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import type { ChannelReceiver } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { fileReadChannel, fileWriteChannel } from "../src/channel/file.js";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { failure, folder, listing, noise, smallDisk } from "./sink-fixture.js";

const gone = new Error("the peer went away");

/** Collects what is delivered; answers each portion with what `pace` says. */
class Collector implements ChannelReceiver {
  readonly portions: Uint8Array[] = [];
  readonly buffers = new Set<ArrayBufferLike>();
  readonly ended: Deferred<Error | undefined> = deferred();
  ends = 0;

  constructor(private readonly pace: () => Promise<void> | undefined = () => undefined) {}

  bytes(portion: Uint8Array): void | Promise<void> {
    this.portions.push(portion.slice());
    this.buffers.add(portion.buffer);
    return this.pace();
  }

  end(error?: Error): void {
    this.ends++;
    this.ended.resolve(error);
  }

  get content(): Buffer {
    return Buffer.concat(this.portions);
  }
}

/** Files below a folder that this process has open. */
async function openFiles(at: string): Promise<number> {
  const links = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ""));
  return (await Promise.all(links)).filter((path) => path.startsWith(at)).length;
}

describe("a channel into a file", () => {
  test("writes parts in the order of the calls, which may overlap, and shows the file when it is closed", async () => {
    const at = folder();
    const path = join(at, "model.twire");
    const channel = await fileWriteChannel(path);
    expect([channel.kind, channel.direction]).toEqual(["file", "send"]);
    const receiver = new Collector();
    channel.open(receiver);
    const parts = Array.from({ length: 50 }, (_, i) => [noise(i * 1000, i), noise(3, i)]);
    await Promise.all(parts.map((pair) => channel.send(pair)));
    await channel.send([]);
    expect(existsSync(path)).toBe(false);
    const closing = channel.close();
    expect(channel.close(gone)).toBe(closing);
    await closing;
    expect(readFileSync(path).equals(Buffer.concat(parts.flat()))).toBe(true);
    expect(listing(at)).toEqual(["model.twire"]);
    expect((await failure(channel.send([noise(1, 1)]))).code).toBe("CHANNEL_CLOSED");
    expect(await receiver.ended.promise).toBeUndefined();
    expect(receiver.ends).toBe(1);
  });

  test("leaves nothing when it is closed with an error, also in the midst of a write", async () => {
    const at = folder();
    const channel = await fileWriteChannel(join(at, "model.twire"));
    const receiver = new Collector();
    channel.open(receiver);
    const sending = channel.send([noise(1_000_000, 1)]);
    await channel.close(gone);
    await sending;
    expect(listing(at)).toEqual([]);
    expect(await receiver.ended.promise).toBe(gone);
  });

  test("is refused before anything is taken, and replaces where it was asked to", async () => {
    const at = folder();
    const path = join(at, "model.twire");
    writeFileSync(path, "old");
    expect((await failure(fileWriteChannel(path))).code).toBe("TARGET_EXISTS");
    expect((await failure(fileWriteChannel(join(at, "no", "model.twire")))).code).toBe("TARGET_WRITE");
    expect((await failure(fileWriteChannel(join(at, "x"), { expectedBytes: 2 ** 52 }))).code).toBe(
      "TARGET_FULL",
    );
    const channel = await fileWriteChannel(path, { overwrite: true });
    expect((await failure(fileWriteChannel(path, { overwrite: true }))).code).toBe("TARGET_BUSY");
    await channel.send([Buffer.from("new")]);
    await channel.close();
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(listing(at)).toEqual(["model.twire"]);
  });

  test("fails to close where the name is taken meanwhile, and leaves nothing of its own", async () => {
    const at = folder();
    const path = join(at, "model.twire");
    const channel = await fileWriteChannel(path);
    await channel.send([noise(10, 1)]);
    writeFileSync(path, "theirs");
    expect((await failure(channel.close())).code).toBe("TARGET_EXISTS");
    expect(readFileSync(path, "utf8")).toBe("theirs");
    expect(listing(at)).toEqual(["model.twire"]);
  });

  test("is TARGET_FULL on a disk that fills, and leaves nothing, close it as you like", async () => {
    const disk = smallDisk("size=1m");
    if (!disk) return;
    for (const error of [undefined, gone]) {
      const channel = await fileWriteChannel(join(disk, "model.twire"));
      await channel.send([noise(800_000, 1)]);
      const full = await failure(channel.send([noise(800_000, 2)]));
      expect(full.code).toBe("TARGET_FULL");
      if (error) await channel.close(error);
      else expect(await failure(channel.close())).toBe(full);
      expect(listing(disk)).toEqual([]);
    }
  });
});

describe("a channel out of a file", () => {
  test.each([0, 1, 256 * 1024, 1_000_003])(
    "delivers its %i bytes through one buffer, then ends",
    async (size) => {
      const at = folder();
      const path = join(at, "model.twire");
      const data = noise(size, 1);
      writeFileSync(path, data);
      const channel = await fileReadChannel(path);
      expect([channel.kind, channel.direction]).toEqual(["file", "receive"]);
      const receiver = new Collector();
      channel.open(receiver);
      expect(await receiver.ended.promise).toBeUndefined();
      expect(receiver.content.equals(data)).toBe(true);
      expect(receiver.buffers.size).toBeLessThanOrEqual(1);
      expect(await openFiles(at)).toBe(0);
      await channel.close();
      expect(receiver.ends).toBe(1);
      expect((await failure(channel.send([data]))).code).toBe("INVALID_ARGUMENT");
    },
  );

  test("delivers no more until the receiver is ready for it", async () => {
    const path = join(folder(), "model.twire");
    const data = noise(1_000_000, 2);
    writeFileSync(path, data);
    let ready = deferred<void>();
    const channel = await fileReadChannel(path);
    const receiver = new Collector(() => ready.promise);
    channel.open(receiver);
    for (let portions = 1; portions <= 4; portions++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(receiver.portions.length).toBe(portions);
      const go = ready;
      ready = deferred<void>();
      go.resolve();
    }
    expect(await receiver.ended.promise).toBeUndefined();
    expect(receiver.content.equals(data)).toBe(true);
    await channel.close();
  });

  test("stops when it is closed, even while the receiver takes its time", async () => {
    const at = folder();
    const path = join(at, "model.twire");
    writeFileSync(path, noise(1_000_000, 3));
    const never = deferred<void>();
    const channel = await fileReadChannel(path);
    const receiver = new Collector(() => never.promise);
    channel.open(receiver);
    while (receiver.portions.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await channel.close(gone);
    expect(await receiver.ended.promise).toBe(gone);
    expect(await openFiles(at)).toBe(0);
    never.resolve();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([receiver.portions.length, receiver.ends]).toEqual([1, 1]);
  });

  test("delivers nothing once it is closed, not even what is being read", async () => {
    const path = join(folder(), "model.twire");
    writeFileSync(path, "x");
    const channel = await fileReadChannel(path);
    const receiver = new Collector();
    channel.open(receiver);
    await channel.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([receiver.portions.length, receiver.ends]).toEqual([0, 1]);
  });

  test("closes before it is opened", async () => {
    const at = folder();
    writeFileSync(join(at, "model.twire"), "x");
    const channel = await fileReadChannel(join(at, "model.twire"));
    await channel.close();
    expect(await openFiles(at)).toBe(0);
  });

  test("is CHANNEL_OPEN where there is nothing to read", async () => {
    const at = folder();
    mkdirSync(join(at, "dir"));
    for (const name of ["missing.twire", "dir"]) {
      const error = await failure(fileReadChannel(join(at, name)));
      expect(error.code).toBe("CHANNEL_OPEN");
      expect(error.message).toContain(join(at, name));
      expect(error.retryable).toBe(false);
    }
  });
});
