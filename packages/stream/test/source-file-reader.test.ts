import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, open, rename, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferPool, type Loan } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fileFault } from "../src/source/file-fault.js";
import { DIRECT_READ_BYTES, FileReader } from "../src/source/file-reader.js";
import { READ_AHEAD_BYTES } from "../src/source/source.js";
import { pattern, watchReads } from "./source-reading.js";

let folder: string;
let path: string;
let reader: FileReader | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-reader-"));
  path = join(folder, "file");
});
afterEach(async () => {
  vi.restoreAllMocks();
  await reader?.close();
  reader = undefined;
  await rm(folder, { recursive: true });
});

async function fileOf(bytes: Uint8Array): Promise<FileReader> {
  await writeFile(path, bytes);
  reader = await FileReader.open(path);
  return reader;
}

describe("reading ahead", () => {
  test("10,000 neighbours of 1 KiB cost about ten reads, and come at once where the block has them", async () => {
    const content = pattern(10_000 * 1024);
    const file = await fileOf(content);
    const pool = new BufferPool(READ_AHEAD_BYTES);
    const reads = await watchReads(path);
    let waits = 0;
    const held: Loan[] = [];
    for (let i = 0; i < 10_000; i++) {
      const reading = file.read(i * 1024, 1024, pool);
      if (reading instanceof Promise) waits++;
      const loan = await reading;
      expect(Buffer.compare(loan.bytes, content.subarray(i * 1024, (i + 1) * 1024))).toBe(0);
      held.push(loan);
      if (held.length > 100) held.shift()!.release();
    }
    expect(reads.bytes.length).toBe(13);
    expect(waits).toBe(13);
    expect(Math.max(...reads.bytes)).toBe(READ_AHEAD_BYTES);
    for (const loan of held) loan.release();
    // The last byte of the file was lent: nothing of the block can be asked for again.
    expect(pool.loans).toBe(0);
    expect(pool.heldBytes).toBeLessThanOrEqual(3 * READ_AHEAD_BYTES);
  });

  test("a part that is still lent keeps its bytes while its block is replaced", async () => {
    const content = pattern(4 * READ_AHEAD_BYTES);
    const file = await fileOf(content);
    const pool = new BufferPool(READ_AHEAD_BYTES);
    const first = await file.read(10, 1000, pool);
    for (let at = 2000; at < content.length - 1000; at += 50_000) (await file.read(at, 1000, pool)).release();
    expect(Buffer.compare(first.bytes, content.subarray(10, 1010))).toBe(0);
    first.release();
    expect(() => first.release()).toThrow(/twice/);
    file.forget();
    expect(pool.loans).toBe(0);
  });

  test("a small tensor between large ones reads little more than itself", async () => {
    const file = await fileOf(pattern(8 * READ_AHEAD_BYTES));
    const pool = new BufferPool(READ_AHEAD_BYTES);
    const reads = await watchReads(path);
    for (let at = 0; at < 6 * READ_AHEAD_BYTES; at += READ_AHEAD_BYTES + 1024) {
      (await file.read(at, 1024, pool)).release();
      (await file.read(at + 1024, READ_AHEAD_BYTES, pool)).release();
      expect(pool.loans).toBe(0);
    }
    expect([...new Set(reads.bytes)].sort((a, b) => a - b)).toEqual([64 * 1024, READ_AHEAD_BYTES]);
  });

  test("a read across the end of a block, one that goes back, and one in a smaller pool", async () => {
    const content = pattern(500_000);
    const file = await fileOf(content);
    const pool = new BufferPool(100_000);
    for (const at of [0, 65_000, 131_000, 200_000, 100, 499_000]) {
      const loan = await file.read(at, 1000, pool);
      expect(Buffer.compare(loan.bytes, content.subarray(at, at + 1000))).toBe(0);
      loan.release();
    }
    file.forget();
    expect(pool.loans).toBe(0);
  });

  test("close gives the block back, also the one of a read that is under way", async () => {
    const content = pattern(100_000);
    const file = await fileOf(content);
    const pool = new BufferPool(READ_AHEAD_BYTES);
    (await file.read(0, 10, pool)).release();
    expect(pool.loans).toBe(1);
    await file.close();
    expect(pool.loans).toBe(0);

    const again = await FileReader.open(path);
    const reading = again.read(5, 10, pool);
    const closing = again.close();
    const loan = await reading;
    expect(Buffer.compare(loan.bytes, content.subarray(5, 15))).toBe(0);
    loan.release();
    await closing;
    expect(pool.loans).toBe(0);
    await again.close();
  });
});

describe("direct reads", () => {
  test("fill one loan, however short the system's reads are", async () => {
    const content = pattern(DIRECT_READ_BYTES + 12_345);
    const file = await fileOf(content);
    const pool = new BufferPool(1 << 20);
    const reads = await watchReads(path, 100_000);
    const loan = await file.read(345, DIRECT_READ_BYTES + 12_000, pool);
    expect(Buffer.compare(loan.bytes, content.subarray(345))).toBe(0);
    expect(reads.bytes.length).toBe(3);
    expect(pool.lentBytes).toBe(DIRECT_READ_BYTES + 12_000);
    loan.release();
    expect(pool.loans).toBe(0);
  });

  test("positions beyond 2^31 and 2^32", async () => {
    const size = 5 * 1024 ** 3;
    const places = [2 ** 31 - 500, 2 ** 32 - 500, size - DIRECT_READ_BYTES];
    const handle = await open(path, "w");
    await handle.truncate(size);
    for (const at of places) await handle.write(pattern(1000, at), 0, 1000, at);
    await handle.close();
    reader = await FileReader.open(path);
    expect(reader.size).toBe(size);
    const pool = new BufferPool(1 << 20);
    for (const at of places) {
      for (const bytes of [1000, DIRECT_READ_BYTES]) {
        const loan = await reader.read(at, bytes, pool);
        expect(Buffer.compare(loan.bytes.subarray(0, 1000), pattern(1000, at))).toBe(0);
        loan.release();
      }
    }
    expect(pool.loans).toBe(0);
  });
});

describe("faults", () => {
  test.each([1000, DIRECT_READ_BYTES])("a file that shrank under a read of %i bytes", async (bytes) => {
    const file = await fileOf(pattern(400_000));
    const pool = new BufferPool(1 << 20);
    await truncate(path, 100_000);
    await expect(async () => file.read(100_000 - 500, bytes, pool)).rejects.toMatchObject({
      code: "SOURCE_CHANGED",
      message: `"${path}" ends at byte 100000, though it had 400000 bytes when it was opened`,
    });
    expect(pool.loans).toBe(0);
  });

  test("a read that the system refuses", async () => {
    const file = await fileOf(pattern(1000));
    const pool = new BufferPool(1 << 20);
    await file.close();
    await expect(async () => file.read(0, 10, pool)).rejects.toMatchObject({
      code: "SOURCE_READ",
      message: expect.stringContaining(`"${path}" cannot be read:`),
    });
    expect(pool.loans).toBe(0);
  });

  test("what cannot be opened", async () => {
    const fails = (at: string, expected: object) =>
      expect(FileReader.open(at)).rejects.toMatchObject(expected);
    await fails(path, {
      code: "SOURCE_READ",
      message: `"${path}" cannot be opened: there is no such file (ENOENT)`,
      retryable: false,
    });
    await fails(folder, { code: "SOURCE_INVALID", message: expect.stringContaining("a directory") });
    await fails("/dev/null", { code: "SOURCE_INVALID", message: expect.stringContaining("no regular file") });
    await symlink(path, path);
    await fails(path, { code: "SOURCE_READ", message: expect.stringContaining("symbolic links") });
    await fails(join(folder, "x".repeat(300)), { message: expect.stringContaining("ENAMETOOLONG") });
    // Root may open everything, so this one is not provoked.
    const denied = fileFault(Object.assign(new Error("no"), { code: "EACCES" }), "m", "opened");
    expect(denied).toMatchObject({
      code: "SOURCE_READ",
      message: '"m" cannot be opened: permission denied (EACCES)',
    });
    expect(fileFault(new Error("EIO: i/o error"), "m", "read")).toMatchObject({ retryable: true });
  });

  test("a pipe does not block", async () => {
    execFileSync("mkfifo", [path]);
    await expect(FileReader.open(path)).rejects.toMatchObject({ code: "SOURCE_INVALID" });
  });
});

describe("versions", () => {
  const later = new Date(Date.now() + 60_000);

  test("an untouched file verifies", async () => {
    const file = await fileOf(pattern(10));
    await file.verify();
  });

  test.each<[string, () => Promise<unknown>, string]>([
    ["grew", () => writeFile(path, "more", { flag: "a" }), "it had 10 bytes and has 14"],
    ["was written to", () => writeFile(path, pattern(10, 2)), "it was written to"],
    [
      "was written to, and its time set back",
      async () => {
        const { mtime, atime } = await (await import("node:fs/promises")).stat(path);
        await writeFile(path, pattern(10, 2));
        await utimes(path, atime, mtime);
      },
      "it was",
    ],
    [
      "was replaced",
      async () => {
        await writeFile(`${path}.new`, pattern(10, 2));
        await rename(`${path}.new`, path);
      },
      "replaced",
    ],
  ])("one that %s does not", async (_, change, message) => {
    const file = await fileOf(pattern(10));
    // Two writes within one tick of the kernel's clock look alike.
    await new Promise((resolve) => setTimeout(resolve, 20));
    await change();
    await expect(file.verify()).rejects.toMatchObject({
      code: "SOURCE_CHANGED",
      message: expect.stringContaining(message),
      retryable: true,
    });
  });

  test("opened again, it must be the same", async () => {
    const { state } = await fileOf(pattern(10));
    await (await FileReader.open(path, state)).close();
    await utimes(path, later, later);
    await expect(FileReader.open(path, state)).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
    await mkdir(join(folder, "sub"));
    await writeFile(join(folder, "sub", "file"), pattern(10));
    await expect(FileReader.open(join(folder, "sub", "file"), state)).rejects.toMatchObject({
      message: expect.stringContaining("another file"),
    });
  });
});
