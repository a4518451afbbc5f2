import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PartFile } from "../src/sink/part-file.js";
import { failure, folder, listing } from "./sink-fixture.js";
import { bytes, text } from "./sink-part-file-fixture.js";

/** A lock whose owner is gone: its pid runs, but began at another time. */
const deadLock = (): string =>
  JSON.stringify({
    pid: process.pid,
    host: spawnSync("hostname").stdout.toString().trim(),
    started: "1",
    token: "dead",
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
