import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PartFile } from "../src/sink/part-file.js";
import { cleanup, failure, folder, listing, noise, smallDisk } from "./sink-fixture.js";

const text = (path: string): string => readFileSync(path, "utf8");
const bytes = (words: string): Uint8Array => new TextEncoder().encode(words);

/** A lock whose owner is gone: its pid runs, but began at another time. */
const deadLock = (): string =>
  JSON.stringify({
    pid: process.pid,
    host: spawnSync("hostname").stdout.toString().trim(),
    started: "1",
    token: "dead",
  });

describe("a file that becomes complete", () => {
  test("appears at finish, with what was written, and nothing beside it", async () => {
    const at = folder();
    const path = join(at, "model");
    const file = await PartFile.open(path);
    expect(listing(at)).toEqual(["model.part", "model.part.lock"]);
    await Promise.all([
      file.write(bytes("world"), 6),
      file.write([bytes("he"), bytes(""), bytes("llo ")], 0),
    ]);
    expect(existsSync(path)).toBe(false);
    await file.finish();
    expect(text(path)).toBe("hello world");
    expect(listing(at)).toEqual(["model"]);
  });

  test("grows with what is written: nothing is allocated ahead", async () => {
    const path = join(folder(), "model");
    const file = await PartFile.open(path, { expectedBytes: 1024 * 1024 * 1024 });
    expect(statSync(`${path}.part`).size).toBe(0);
    await file.write(noise(1000, 1), 0);
    expect(statSync(`${path}.part`).size).toBe(1000);
    await file.abort();
  });

  test("takes more parts than one call of the system does", async () => {
    const path = join(folder(), "model");
    const file = await PartFile.open(path);
    const parts = Array.from({ length: 5000 }, (_, i) => noise(i % 7, i));
    await file.write(parts, 10);
    await file.finish();
    expect(readFileSync(path).subarray(10).equals(Buffer.concat(parts))).toBe(true);
  });

  test("takes positions past 2^32", async () => {
    const path = join(folder(), "model");
    const file = await PartFile.open(path);
    const position = 2 ** 32 + 12_345;
    await file.write(bytes("far"), position);
    await file.finish();
    expect(statSync(path).size).toBe(position + 3);
  });

  test("waits for the writes that are under way", async () => {
    const path = join(folder(), "model");
    const file = await PartFile.open(path);
    const data = noise(4 * 1024 * 1024, 3);
    const writing = [0, 1, 2, 3].map((i) => file.write(data.subarray(i << 20, (i + 1) << 20), i << 20));
    await file.finish();
    let late = 0;
    for (const write of writing) write.then(() => late++);
    await new Promise((resolve) => setImmediate(resolve));
    expect(late).toBe(4);
    expect(readFileSync(path).equals(data)).toBe(true);
  });

  test("appears in the folder that was meant at first, though a link to it leads elsewhere now", async () => {
    const at = folder();
    for (const name of ["one", "two"]) mkdirSync(join(at, name));
    symlinkSync("one", join(at, "alias"));
    const file = await PartFile.open(join(at, "alias", "model"));
    unlinkSync(join(at, "alias"));
    symlinkSync("two", join(at, "alias"));
    await file.finish();
    expect([listing(join(at, "one")), listing(join(at, "two"))]).toEqual([["model"], []]);
  });
});

describe("a file that does not", () => {
  test("leaves nothing, even in the midst of a write", async () => {
    const at = folder();
    const file = await PartFile.open(join(at, "model"));
    const writing = file.write(noise(4 * 1024 * 1024, 1), 0);
    const aborting = file.abort();
    expect(file.abort()).toBe(aborting);
    await aborting;
    await writing;
    expect(listing(at)).toEqual([]);
    expect((await failure(file.write(bytes("late"), 0))).code).toBe("ABORTED");
    expect((await failure(file.finish())).code).toBe("ABORTED");
    expect(listing(at)).toEqual([]);
  });

  test("is undone where abort comes during finish", async () => {
    const at = folder();
    const file = await PartFile.open(join(at, "model"));
    await file.write(noise(1024 * 1024, 1), 0);
    const finishing = failure(file.finish());
    await file.abort();
    expect((await finishing).code).toBe("ABORTED");
    expect(listing(at)).toEqual([]);
  });

  test("is taken back after it has its name, until it is released", async () => {
    const at = folder();
    const file = await PartFile.open(join(at, "model"));
    await file.write(bytes("x"), 0);
    await file.complete();
    await file.publish();
    expect(listing(at)).toEqual(["model", "model.part.lock"]);
    await file.abort();
    expect(listing(at)).toEqual([]);
  });

  test("stays once it is finished, whatever comes", async () => {
    const at = folder();
    const file = await PartFile.open(join(at, "model"));
    await file.finish();
    await file.abort();
    expect(listing(at)).toEqual(["model"]);
  });

  test("does not reject when its folder is gone", async () => {
    const at = join(folder(), "gone");
    mkdirSync(at);
    const file = await PartFile.open(join(at, "model"));
    spawnSync("rm", ["-r", at]);
    expect((await failure(file.finish())).code).toBe("TARGET_WRITE");
    await file.abort();
  });
});

describe("a destination that exists", () => {
  test("is TARGET_EXISTS, with advice, and is not touched", async () => {
    const at = folder();
    const path = join(at, "model");
    writeFileSync(path, "old");
    const error = await failure(PartFile.open(path));
    expect(error.code).toBe("TARGET_EXISTS");
    expect(error.message).toContain(path);
    expect(error.message).toContain("--overwrite (overwrite: true)");
    expect(listing(at)).toEqual(["model"]);
    expect(text(path)).toBe("old");
  });

  test("is replaced where that was asked for, at the end and not before", async () => {
    const at = folder();
    const path = join(at, "model");
    writeFileSync(path, "old");
    const given = await PartFile.open(path, { overwrite: true });
    await given.write(bytes("given up"), 0);
    await given.abort();
    expect(text(path)).toBe("old");
    const file = await PartFile.open(path, { overwrite: true });
    await file.write(bytes("new"), 0);
    expect(text(path)).toBe("old");
    await file.finish();
    expect(text(path)).toBe("new");
    expect(listing(at)).toEqual(["model"]);
  });

  test("that appears meanwhile is TARGET_EXISTS, and is not touched", async () => {
    const at = folder();
    const path = join(at, "model");
    const file = await PartFile.open(path);
    await file.write(bytes("ours"), 0);
    writeFileSync(path, "theirs");
    expect((await failure(file.finish())).code).toBe("TARGET_EXISTS");
    await file.abort();
    expect(text(path)).toBe("theirs");
    expect(listing(at)).toEqual(["model"]);
  });

  test("is TARGET_EXISTS as a link that leads nowhere; a link is replaced, not followed", async () => {
    const at = folder();
    const path = join(at, "model");
    symlinkSync(join(at, "elsewhere"), path);
    expect((await failure(PartFile.open(path))).code).toBe("TARGET_EXISTS");
    writeFileSync(join(at, "elsewhere"), "precious");
    expect((await failure(PartFile.open(path))).code).toBe("TARGET_EXISTS");
    const file = await PartFile.open(path, { overwrite: true });
    await file.write(bytes("new"), 0);
    await file.finish();
    expect(lstatSync(path).isFile()).toBe(true);
    expect(text(join(at, "elsewhere"))).toBe("precious");
  });

  test.each([
    ["a folder", (path: string) => mkdirSync(path)],
    ["a pipe", (path: string) => void spawnSync("mkfifo", [path])],
    ["a link to a device", (path: string) => symlinkSync("/dev/null", path)],
  ])("is TARGET_WRITE as %s, overwrite or not", async (_, make) => {
    const at = folder();
    const path = join(at, "model");
    make(path);
    for (const overwrite of [false, true]) {
      const error = await failure(PartFile.open(path, { overwrite }));
      expect(error.code).toBe("TARGET_WRITE");
      expect(error.message).toContain(path);
    }
    expect(listing(at)).toEqual(["model"]);
  });
});

describe("a destination that another receiver writes", () => {
  test("is TARGET_BUSY, naming the process, in any spelling of its path", async () => {
    const at = folder();
    const path = join(at, "model");
    mkdirSync(join(at, "real"));
    symlinkSync(join(at, "real"), join(at, "alias"));
    const file = await PartFile.open(join(at, "real", "model"));
    for (const other of [join(at, "alias", "model"), `${at}/real/../real/./model`]) {
      const error = await failure(PartFile.open(other, { overwrite: true }));
      expect(error.code).toBe("TARGET_BUSY");
      expect(error.retryable).toBe(true);
      expect(error.message).toContain(`this process (${process.pid})`);
    }
    // Neighbours are free.
    await (await PartFile.open(path)).abort();
    await file.abort();
    await (await PartFile.open(join(at, "alias", "model"))).abort();
    expect(listing(join(at, "real"))).toEqual([]);
  });

  test("is given to exactly one of many that come at once", async () => {
    const at = folder();
    const path = join(at, "model");
    const opened = await Promise.allSettled(Array.from({ length: 20 }, () => PartFile.open(path)));
    const files = opened.filter((result) => result.status === "fulfilled");
    expect(files.length).toBe(1);
    for (const result of opened)
      if (result.status === "rejected") expect(result.reason.code).toBe("TARGET_BUSY");
    await files[0]!.value.finish();
    expect(listing(at)).toEqual(["model"]);
  });
});

describe("leftovers", () => {
  test("of a process that died are removed, not added to", async () => {
    const at = folder();
    const path = join(at, "model");
    writeFileSync(`${path}.part.lock`, deadLock());
    writeFileSync(`${path}.part`, "a part of something longer than the new one");
    const file = await PartFile.open(path);
    await file.write(bytes("new"), 0);
    await file.finish();
    expect(text(path)).toBe("new");
    expect(listing(at)).toEqual(["model"]);
  });

  test("of somebody else are in the way, unless overwriting was asked for", async () => {
    const at = folder();
    const path = join(at, "model");
    writeFileSync(`${path}.part`, "another program's download");
    const error = await failure(PartFile.open(path));
    expect(error.code).toBe("TARGET_EXISTS");
    expect(error.message).toContain(`${path}.part`);
    expect(text(`${path}.part`)).toBe("another program's download");
    expect(listing(at)).toEqual(["model.part"]);
    const file = await PartFile.open(path, { overwrite: true });
    await file.write(bytes("new"), 0);
    await file.finish();
    expect(listing(at)).toEqual(["model"]);
  });

  test("that are links are never followed", async () => {
    const at = folder();
    const path = join(at, "model");
    const victim = join(at, "victim");
    writeFileSync(victim, "precious");
    const plant = (): void => symlinkSync(victim, `${path}.part`);
    plant();
    expect((await failure(PartFile.open(path))).code).toBe("TARGET_EXISTS");
    expect(readlinkSync(`${path}.part`)).toBe(victim);
    const replacing = await PartFile.open(path, { overwrite: true });
    await replacing.write(bytes("evil"), 0);
    await replacing.abort();
    plant();
    writeFileSync(`${path}.part.lock`, deadLock());
    const file = await PartFile.open(path);
    await file.write(bytes("evil"), 0);
    await file.finish();
    expect(text(victim)).toBe("precious");
    expect(lstatSync(path).isFile()).toBe(true);
    expect(listing(at)).toEqual(["model", "victim"]);
  });
});

describe("a destination that cannot be written", () => {
  test.each([
    ["its folder is missing", (at: string) => join(at, "missing", "model")],
    ["its folder is a file", (at: string) => join(at, "file", "model")],
    ["it ends in a slash", (at: string) => join(at, "model/")],
    ["it is the folder itself", (at: string) => join(at, "..")],
    ["its name is too long", (at: string) => join(at, "m".repeat(250))],
    ["its name is empty", () => ""],
  ])("is TARGET_WRITE where %s", async (_, path) => {
    const at = folder();
    writeFileSync(join(at, "file"), "");
    const error = await failure(PartFile.open(path(at), { overwrite: true }));
    expect(error.code).toBe("TARGET_WRITE");
    expect(error.message).toMatch(/cannot write ".*": .+: .+/);
    expect(listing(at)).toEqual(["file"]);
  });

  test("is TARGET_WRITE on a file system that is read-only", async () => {
    const disk = smallDisk("ro");
    if (!disk) return;
    const error = await failure(PartFile.open(join(disk, "model")));
    expect(error.code).toBe("TARGET_WRITE");
    expect(error.message).toContain("read-only");
  });

  test("is TARGET_WRITE in a folder without permission", async () => {
    const at = folder();
    // Permission bits do not bind root, but not even root makes files in sysfs.
    const root = process.getuid?.() === 0;
    if (!root) chmodSync(at, 0o555);
    const error = await failure(PartFile.open(join(root ? "/sys" : at, "model")));
    expect(error.code).toBe("TARGET_WRITE");
    expect(error.message).toMatch(/perm/);
  });
});

describe("a disk that is full", () => {
  test("is TARGET_FULL before anything is taken, where the size is known", async () => {
    const at = folder();
    const error = await failure(PartFile.open(join(at, "model"), { expectedBytes: 2 ** 52 }));
    expect(error.code).toBe("TARGET_FULL");
    expect(error.message).toMatch(/it takes 4503599627370496 bytes, its disk has \d+/);
    expect(listing(at)).toEqual([]);
  });

  test("is TARGET_FULL in the midst of writing, and nothing is left", async () => {
    const disk = smallDisk("size=4m");
    if (!disk) return;
    expect((await failure(PartFile.open(join(disk, "model"), { expectedBytes: 5_000_000 }))).code).toBe(
      "TARGET_FULL",
    );
    const file = await PartFile.open(join(disk, "model"));
    await file.write(noise(3_000_000, 1), 0);
    // Two parts in one call: the first still fits.
    const error = await failure(file.write([noise(1_000_000, 2), noise(1_000_000, 3)], 3_000_000));
    expect(error.code).toBe("TARGET_FULL");
    expect(error.message).toContain(join(disk, "model"));
    // The first cause stays.
    expect(await failure(file.write(bytes("more"), 0))).toBe(error);
    expect(await failure(file.finish())).toBe(error);
    await file.abort();
    expect(listing(disk)).toEqual([]);
  });

  test("is TARGET_FULL at finish, where a write that nobody waited for fails", async () => {
    const disk = smallDisk("size=4m");
    if (!disk) return;
    const file = await PartFile.open(join(disk, "model"));
    const data = noise(3_000_000, 1);
    const writing = [0, 1, 2, 3].map((i) => failure(file.write(data, i * data.length)).catch(() => {}));
    expect((await failure(file.finish())).code).toBe("TARGET_FULL");
    await Promise.all(writing);
    expect(existsSync(join(disk, "model"))).toBe(false);
    await file.abort();
    expect(listing(disk)).toEqual([]);
  });

  test("is TARGET_FULL where not even the lock has room", async () => {
    const disk = smallDisk("size=64k");
    if (!disk) return;
    writeFileSync(join(disk, "filler"), new Uint8Array(64 * 1024));
    const error = await failure(PartFile.open(join(disk, "model")));
    expect(error.code).toBe("TARGET_FULL");
    expect(listing(disk)).toEqual(["filler"]);
  });

  test("is TARGET_FULL where the process may not write files of that size", async () => {
    const limit = (soft: string): number | null =>
      spawnSync("prlimit", ["--pid", String(process.pid), `--fsize=${soft}:`]).status;
    if (limit("1000000") !== 0) return console.log("SKIPPED: needs prlimit");
    cleanup(() => limit("unlimited"));
    const at = folder();
    const file = await PartFile.open(join(at, "model"));
    await file.write(noise(900_000, 1), 0);
    const error = await failure(file.write(noise(200_000, 2), 900_000));
    expect(error.code).toBe("TARGET_FULL");
    expect(error.message).toContain("ulimit -f");
    await file.abort();
    expect(listing(at)).toEqual([]);
  });
});
