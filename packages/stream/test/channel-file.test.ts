import { mkdirSync, writeFileSync } from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import type { ChannelReceiver } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { fileReadChannel } from "../src/channel/file.js";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { failure, folder, noise } from "./sink-fixture.js";

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
