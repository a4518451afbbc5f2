import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { Lock } from "../src/sink/lock.js";
import { PartFile } from "../src/sink/part-file.js";
import { failure, folder, listing, noise } from "./sink-fixture.js";

// What may come between two steps comes between them here.

/** Runs after the next read of a file, before its reader goes on. */
let afterRead: (() => Promise<void>) | undefined;
/** A write begins only when this is let go. */
let beforeWrite: Deferred<void> | undefined;
beforeEach(() => {
  afterRead = undefined;
  beforeWrite = undefined;
});

vi.mock("node:fs/promises", async (importOriginal) => {
  const fs = await importOriginal<typeof import("node:fs/promises")>();
  const readFile = async (path: string, encoding: "utf8"): Promise<string> => {
    const text = await fs.readFile(path, encoding);
    const action = afterRead;
    afterRead = undefined;
    await action?.();
    return text;
  };
  return { ...fs, readFile };
});

vi.mock("../src/sink/write-all.js", async (importOriginal) => {
  const { writeAll } = await importOriginal<typeof import("../src/sink/write-all.js")>();
  const late: typeof writeAll = async (...write) => {
    await beforeWrite?.promise;
    await writeAll(...write);
  };
  return { writeAll: late };
});

const turns = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

test("a dead lock that somebody else takes over between the look and the grasp is theirs", async () => {
  const path = join(folder(), "lock");
  writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname(), started: "1", token: "dead" }));
  let first: Lock | undefined;
  afterRead = async () => {
    first = await Lock.take(path, "model");
  };
  expect((await failure(Lock.take(path, "model"))).code).toBe("TARGET_BUSY");
  expect(first!.inherited).toBe(true);
  await first!.release();
  expect(existsSync(path)).toBe(false);
});

test("finish waits for writes that are under way", async () => {
  const at = folder();
  const file = await PartFile.open(join(at, "model"));
  beforeWrite = deferred();
  const data = noise(1000, 1);
  const writing = file.write(data, 0);
  let finished = false;
  const finishing = file.finish().then(() => {
    finished = true;
  });
  await turns();
  expect(finished).toBe(false);
  beforeWrite.resolve();
  await Promise.all([writing, finishing]);
  expect(readFileSync(join(at, "model")).equals(data)).toBe(true);
});

test("finish fails with a write that fails meanwhile", async () => {
  const at = folder();
  const file = await PartFile.open(join(at, "model"));
  beforeWrite = deferred();
  const writing = failure(file.write(noise(1000, 1), 0));
  const finishing = failure(file.finish());
  await turns();
  const full: NodeJS.ErrnoException = new Error("no space left");
  full.code = "ENOSPC";
  beforeWrite.reject(full);
  expect((await writing).code).toBe("TARGET_FULL");
  expect(await finishing).toBe(await writing);
  await file.abort();
  expect(listing(at)).toEqual([]);
});

test("abort waits for writes that are under way, so that none comes after it", async () => {
  const at = folder();
  const file = await PartFile.open(join(at, "model"));
  beforeWrite = deferred();
  const writing = file.write(noise(1000, 1), 0);
  let aborted = false;
  const aborting = file.abort().then(() => {
    aborted = true;
  });
  await turns();
  expect(aborted).toBe(false);
  beforeWrite.resolve();
  await Promise.all([writing, aborting]);
  expect(listing(at)).toEqual([]);
});
