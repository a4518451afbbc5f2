import { spawnSync } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { held, interrupted, model, opened } from "./interrupted-file.js";
import { fill, heldBy, INTERRUPTION } from "./journal-fixture.js";
import { failure, folder, listing, TOTALS } from "./sink-fixture.js";

describe("a part file or journal that is not what an interrupted transfer left", () => {
  const refused = async (path: string): Promise<void> => {
    expect((await failure(opened(path))).code).toBe("TARGET_EXISTS");
  };
  /** What is there instead must be as it was. */
  const replacedOnlyIfAsked = async (path: string, victim: string): Promise<void> => {
    const before = readFileSync(victim);
    await refused(path);
    expect(await held(path, { overwrite: true })).toBe(0);
    expect(readFileSync(victim).equals(before)).toBe(true);
  };

  test("is not followed as a link: the part file", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    renameSync(`${path}.part`, join(at, "victim"));
    symlinkSync("victim", `${path}.part`);
    await replacedOnlyIfAsked(path, join(at, "victim"));
  });

  test("is not followed as a link: the journal", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    renameSync(`${path}.part.journal`, join(at, "victim"));
    symlinkSync("victim", `${path}.part.journal`);
    await replacedOnlyIfAsked(path, join(at, "victim"));
  });

  test("is not written to under a second name", async () => {
    for (const name of ["model.safetensors.part", "model.safetensors.part.journal"]) {
      const at = folder();
      const path = join(at, "model.safetensors");
      await interrupted(path);
      linkSync(join(at, name), join(at, "victim"));
      const before = readFileSync(join(at, "victim"));
      if (name.endsWith("journal")) await refused(path);
      const sink = await opened(path, model, { overwrite: true });
      expect(heldBy(sink.resumable!)).toEqual([]);
      await fill(sink, model, 0, 12, 1);
      await sink.resumable!.checkpoint();
      await sink.finish(TOTALS);
      expect(readFileSync(join(at, "victim")).equals(before)).toBe(true);
    }
  });

  test("is not believed as a copy, nor as another file with its number", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    const { ino } = statSync(`${path}.part`);
    copyFileSync(`${path}.part`, join(at, "copy"));
    unlinkSync(`${path}.part`);
    // File systems give a number that was just freed to the next file: not always, and then this is a copy as any other.
    copyFileSync(join(at, "copy"), `${path}.part`);
    if (statSync(`${path}.part`).ino !== ino) renameSync(join(at, "copy"), `${path}.part`);
    await refused(path);
    expect(await held(path, { overwrite: true })).toBe(0);
  });

  test("is not believed where it is shorter than what it held", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    truncateSync(`${path}.part`, statSync(`${path}.part`).size - 1);
    expect(await held(path)).toBe(0);
  });

  test("is not believed under another name", async () => {
    const at = folder();
    await interrupted(join(at, "one"));
    renameSync(join(at, "one.part"), join(at, "two.part"));
    renameSync(join(at, "one.part.journal"), join(at, "two.part.journal"));
    await refused(join(at, "two"));
  });

  test("is not believed where it is another user's", async () => {
    if (process.geteuid?.() !== 0) return console.log("SKIPPED: needs root");
    for (const name of ["model.safetensors.part", "model.safetensors.part.journal"]) {
      const at = folder();
      const path = join(at, "model.safetensors");
      await interrupted(path);
      chownSync(join(at, name), 12_345, 12_345);
      if (name.endsWith("journal")) await refused(path);
      expect(await held(path, { overwrite: true })).toBe(0);
    }
  });

  test.each([
    ["a folder", (path: string) => mkdirSync(path)],
    ["a pipe", (path: string) => void spawnSync("mkfifo", [path])],
    ["text", (path: string) => writeFileSync(path, "dear diary")],
    ["nothing", (path: string) => writeFileSync(path, "")],
  ])("is refused as %s, without waiting for anything", async (_, make) => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    unlinkSync(`${path}.part.journal`);
    make(`${path}.part.journal`);
    await refused(path);
    expect(lstatSync(`${path}.part`).isFile()).toBe(true);
  });

  test("goes where its other half is gone", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    unlinkSync(`${path}.part`);
    expect(await held(path)).toBe(0);
    expect(listing(at)).toEqual([]);
  });

  test("never gets the name: what took the part file's place while it was written", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    const sink = await opened(path);
    await fill(sink, model, 0, 12);
    unlinkSync(`${path}.part`);
    writeFileSync(`${path}.part`, "another program's");
    const error = await failure(sink.finish(TOTALS));
    expect(error.code).toBe("TARGET_WRITE");
    await sink.abort(error);
    expect(existsSync(path)).toBe(false);
    expect(readFileSync(`${path}.part`, "utf8")).toBe("another program's");
  });

  test("never gets the name: what was cut while it was written", async () => {
    const path = join(folder(), "model.safetensors");
    const sink = await opened(path);
    await fill(sink, model, 0, 12);
    await sink.resumable!.checkpoint();
    truncateSync(`${path}.part`, 100_000);
    const error = await failure(sink.finish(TOTALS));
    expect(error.code).toBe("TARGET_WRITE");
    await sink.abort(error);
    expect(listing(join(path, ".."))).toEqual([]);
  });

  test("is in the way also where it comes while the transfer runs", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    const sink = await opened(path);
    await fill(sink, model, 0, 3);
    symlinkSync(join(at, "victim"), `${path}.part.journal`);
    expect((await failure(sink.resumable!.checkpoint())).code).toBe("TARGET_WRITE");
    await sink.abort(INTERRUPTION);
    expect(existsSync(join(at, "victim"))).toBe(false);
  });
});
