import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PartFile } from "../src/sink/part-file.js";
import { failure, folder, listing, noise } from "./sink-fixture.js";
import { bytes, text } from "./sink-part-file-fixture.js";

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
