import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import type { SinkModel } from "../src/sink/sink.js";
import { held, interrupted, model, opened } from "./interrupted-file.js";
import { contentOf, fill, heldBy, INTERRUPTION, killed, modelOfChunks } from "./journal-fixture.js";
import { failure, folder, listing, smallDisk, TOTALS } from "./sink-fixture.js";

const expected = (): Buffer => Buffer.concat([...model.plan.walk()].map((chunk) => contentOf(chunk)));
const data = (path: string): Buffer => readFileSync(path).subarray(-model.plan.bytes);

describe("an interrupted transfer", () => {
  test("leaves its part file and its journal, and no lock", async () => {
    const at = folder();
    await interrupted(join(at, "model.safetensors"));
    expect(listing(at)).toEqual(["model.safetensors.part", "model.safetensors.part.journal"]);
  });

  test("is gone on with in the same file, and nothing is left when that is complete", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    const { ino } = statSync(`${path}.part`);
    const sink = await opened(path);
    expect(heldBy(sink.resumable!)).toEqual([0, 1, 2, 3, 4, 5]);
    await fill(sink, model, 6, 12);
    await sink.finish(TOTALS);
    expect(statSync(path).ino).toBe(ino);
    expect(data(path).equals(expected())).toBe(true);
    expect(listing(at)).toEqual(["model.safetensors"]);
  });

  test("is not gone on with, and not left, where that is not wanted", async () => {
    const at = folder();
    const path = join(at, "model.safetensors");
    await interrupted(path);
    const sink = await opened(path, model, { resume: false });
    expect(sink.resumable).toBeUndefined();
    expect(listing(at)).toEqual(["model.safetensors.part", "model.safetensors.part.lock"]);
    await sink.abort(INTERRUPTION);
    expect(listing(at)).toEqual([]);
  });

  test("is replaced by another model, and by the same one in another shape", async () => {
    const others: [string, SinkModel][] = [
      ["another name", modelOfChunks(12, { name: "other" })],
      ["another length", modelOfChunks(13)],
      ["another dtype at the destination", { ...modelOfChunks(12), dtypes: ["I8"] }],
    ];
    for (const [what, other] of others) {
      const path = join(folder(), "model.safetensors");
      await interrupted(path);
      const sink = await opened(path, other);
      expect(heldBy(sink.resumable!), what).toEqual([]);
      await sink.abort(INTERRUPTION);
      expect(listing(join(path, "..")), what).toEqual([]);
    }
  });

  test("needs only the room that it does not have yet", async () => {
    const disk = smallDisk("size=600k");
    if (!disk) return;
    const path = join(disk, "model.safetensors");
    await interrupted(path);
    expect(await held(path)).toBe(6);
    // The room for the rest is gone.
    writeFileSync(join(disk, "filler"), new Uint8Array(300_000));
    const error = await failure(opened(path));
    expect(error.code).toBe("TARGET_FULL");
    unlinkSync(join(disk, "filler"));
    // For half of the model there is room, and for all of it there is not.
    writeFileSync(join(disk, "filler"), new Uint8Array(150_000));
    expect(await held(path)).toBe(6);
  });
});

describe("a process that dies while the file gets its name", () => {
  test("leaves a complete file, and the next call only tidies up", async () => {
    for (const [what, prepare] of [
      ["linked, and still a part file", (path: string) => linkSync(`${path}.part`, path)],
      ["named, and still with a journal", (path: string) => renameSync(`${path}.part`, path)],
    ] as const) {
      const at = folder();
      const path = join(at, "model.safetensors");
      const sink = await opened(path);
      await fill(sink, model, 0, 12);
      await sink.resumable!.checkpoint();
      prepare(path);
      killed(at);
      const error = await failure(opened(path));
      expect(error.code, what).toBe("TARGET_EXISTS");
      expect(listing(at), what).toEqual(["model.safetensors"]);
      expect(data(path).equals(expected()), what).toBe(true);
    }
  });
});

describe("a disk that is full", () => {
  test("leaves what was durable before, and that is gone on with when there is room", async () => {
    const disk = smallDisk("size=1m");
    if (!disk) return;
    const large = modelOfChunks(40);
    const path = join(disk, "model.safetensors");
    // The free space is looked at first: it goes while the transfer runs.
    writeFileSync(join(disk, "filler"), "");
    const small = await failure(opened(path, large));
    expect(small.code).toBe("TARGET_FULL");
    const sink = await opened(path);
    await fill(sink, model, 0, 5);
    await sink.resumable!.checkpoint();
    const filling = (): void => {
      for (;;) appendFileSync(join(disk, "filler"), new Uint8Array(4096));
    };
    expect(filling).toThrow("ENOSPC");
    const error = await failure(fill(sink, model, 5, 12).then(() => sink.resumable!.checkpoint()));
    expect(error.code).toBe("TARGET_FULL");
    await sink.abort(error);
    unlinkSync(join(disk, "filler"));
    const again = await opened(path);
    expect(heldBy(again.resumable!)).toEqual([0, 1, 2, 3, 4]);
    await fill(again, model, 5, 12);
    await again.finish(TOTALS);
    expect(data(path).equals(expected())).toBe(true);
    expect(listing(disk)).toEqual(["model.safetensors"]);
  });
});

describe("a destination that is removed", () => {
  test("is TARGET_WRITE at the first checkpoint, and nothing is left to be gone on with", async () => {
    const at = join(folder(), "gone");
    mkdirSync(at);
    const path = join(at, "model.safetensors");
    const sink = await opened(path);
    await fill(sink, model, 0, 5);
    rmSync(at, { recursive: true });
    const error = await failure(sink.resumable!.checkpoint());
    expect(error).toBeInstanceOf(TensorwireError);
    expect(error.code).toBe("TARGET_WRITE");
    await sink.abort(error);
  });

  test("is TARGET_WRITE at the end where a journal is there already", async () => {
    const at = join(folder(), "gone");
    mkdirSync(at);
    const path = join(at, "model.safetensors");
    const sink = await opened(path);
    await fill(sink, model, 0, 5);
    await sink.resumable!.checkpoint();
    rmSync(at, { recursive: true });
    await fill(sink, model, 5, 12);
    await sink.resumable!.checkpoint();
    const error = await failure(sink.finish(TOTALS));
    expect(error.code).toBe("TARGET_WRITE");
    await sink.abort(INTERRUPTION);
    mkdirSync(at);
    expect(await held(path)).toBe(0);
  });
});
