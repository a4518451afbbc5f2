import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PartFile } from "../src/sink/part-file.js";
import { cleanup, failure, folder, listing, noise, smallDisk } from "./sink-fixture.js";
import { bytes } from "./sink-part-file-fixture.js";

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
