import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import { safetensorsSink } from "../src/sink/safetensors.js";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import type { ModelSink, SinkModel } from "../src/sink/sink.js";
import { contentOf, fill, heldBy, INTERRUPTION, killed, modelOfChunks } from "./journal-fixture.js";
import { failure, folder, listing, modelOf, smallDisk, TOTALS } from "./sink-fixture.js";

const model = modelOfChunks(12);

const sinks: ModelSink[] = [];
afterEach(async () => {
  for (const sink of sinks.splice(0)) await sink.abort(INTERRUPTION);
});

async function opened(path: string, of: SinkModel = model, options = {}): Promise<ModelSink> {
  const sink = safetensorsSink(path, options);
  await sink.open(of);
  sinks.push(sink);
  return sink;
}

/** An interrupted transfer's traces: half of the chunks. */
async function interrupted(path: string, of: SinkModel = model): Promise<void> {
  const sink = await opened(path, of);
  await fill(sink, of, 0, 6);
  await sink.abort(INTERRUPTION);
}

async function held(path: string, options = {}): Promise<number> {
  const sink = await opened(path, model, options);
  const { length } = heldBy(sink.resumable!);
  await sink.abort(INTERRUPTION);
  return length;
}

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

  test("in shards of another size is replaced", async () => {
    const at = folder();
    const index = join(at, "model.safetensors.index.json");
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );

    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    for (const [maxShardBytes, found] of [
      [70_000, 0],
      [70_000, 5],
      [100_000, 0],
      [100_000, 5],
    ] as const) {
      const sink = shardedSafetensorsSink(index, { maxShardBytes });
      sinks.push(sink);
      await sink.open(many);
      expect(heldBy(sink.resumable!)).toHaveLength(found);
      if (!found) await fill(sink, many, 0, 5);
      await sink.abort(INTERRUPTION);
    }
    const last = shardedSafetensorsSink(index, { maxShardBytes: 70_000, resume: false });
    await last.open(many);
    await last.abort(INTERRUPTION);
    expect(listing(at)).toEqual([]);
  });

  test("in shards starts clean where a shard is gone, and stays where it cannot go on for now", async () => {
    const at = folder();
    const index = join(at, "model.safetensors.index.json");
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    const begin = async (): Promise<ModelSink> => {
      const sink = shardedSafetensorsSink(index, { maxShardBytes: 70_000 });
      sinks.push(sink);
      await sink.open(many);
      return sink;
    };
    const first = await begin();
    await fill(first, many, 0, 6);
    await first.abort(INTERRUPTION);
    writeFileSync(join(at, "model-00002-of-00003.safetensors"), "somebody else's");
    const error = await failure(begin());
    expect(error.code).toBe("TARGET_EXISTS");
    await sinks.at(-1)!.abort(error);
    unlinkSync(join(at, "model-00002-of-00003.safetensors"));
    const second = await begin();
    expect(heldBy(second.resumable!)).toHaveLength(6);
    await second.abort(INTERRUPTION);
    unlinkSync(join(at, "model-00002-of-00003.safetensors.part"));
    const third = await begin();
    expect(heldBy(third.resumable!)).toEqual([]);
    await fill(third, many, 0, 6);
    await third.finish(TOTALS);
    expect(listing(at)).toHaveLength(4);
  });

  test("in shards ends where one goes, or shrinks, before its turn", async () => {
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    const harms: ((part: string) => void)[] = [unlinkSync, (part) => truncateSync(part, 40_000)];
    for (const harm of harms) {
      const at = folder();
      const begin = async (): Promise<ModelSink> => {
        const index = join(at, "model.safetensors.index.json");
        const sink = shardedSafetensorsSink(index, { maxShardBytes: 70_000 });
        sinks.push(sink);
        await sink.open(many);
        return sink;
      };
      const first = await begin();
      await fill(first, many, 0, 5);
      await first.abort(INTERRUPTION);
      const second = await begin();
      expect(heldBy(second.resumable!)).toHaveLength(5);
      harm(join(at, "model-00002-of-00003.safetensors.part"));
      const error = await failure(fill(second, many, 5, 6).then(() => second.finish(TOTALS)));
      expect(error.code).toBe("TARGET_WRITE");
      await second.abort(error);
      expect(listing(at)).toEqual([]);
    }
  });

  test("in shards takes a chunk again of one that is complete", async () => {
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    const at = folder();
    const sink = shardedSafetensorsSink(join(at, "model.safetensors"), { maxShardBytes: 70_000 });
    sinks.push(sink);
    await sink.open(many);
    await fill(sink, many, 0, 5);
    await sink.resumable!.checkpoint();
    // The peer is back, with another state of the source.
    for (const ordinal of [0, 3]) {
      await sink.resumable!.forget(many.plan.chunk(ordinal));
      await fill(sink, many, ordinal, ordinal + 1, 1);
      await sink.resumable!.checkpoint();
    }
    await fill(sink, many, 5, 6);
    await sink.finish(TOTALS);
    const found = [1, 2, 3].map((shard) =>
      readFileSync(join(at, `model-0000${shard}-of-00003.safetensors`)).subarray(-65_536),
    );
    const expected = [...many.plan.walk()].map((chunk) => contentOf(chunk, chunk.ordinal % 3 ? 0 : 1));
    expect(Buffer.concat(found).equals(Buffer.concat(expected))).toBe(true);
    expect(listing(at)).toHaveLength(4);
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

  test("leaves a set of files of which some have names, and the next call goes on with all of them", async () => {
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    for (const named of [1, 2, 3]) {
      for (const how of [linkSync, renameSync]) {
        const at = folder();
        const index = join(at, "model.safetensors.index.json");
        const first = shardedSafetensorsSink(index, { maxShardBytes: 70_000 });
        sinks.push(first);
        await first.open(many);
        await fill(first, many, 0, 6);
        await first.resumable!.checkpoint();
        for (let shard = 1; shard <= named; shard++) {
          const path = join(at, `model-0000${shard}-of-00003.safetensors`);
          how(`${path}.part`, path);
        }
        killed(at);
        const second = shardedSafetensorsSink(index, { maxShardBytes: 70_000 });
        sinks.push(second);
        await second.open(many);
        expect(heldBy(second.resumable!)).toHaveLength(6);
        await second.finish(TOTALS);
        const straight = folder();
        const undisturbed = shardedSafetensorsSink(join(straight, "model.safetensors.index.json"), {
          maxShardBytes: 70_000,
        });
        await undisturbed.open(many);
        await fill(undisturbed, many, 0, 6);
        await undisturbed.finish(TOTALS);
        expect(listing(at)).toEqual(listing(straight));
        for (const file of listing(at)) {
          expect(readFileSync(join(at, file)).equals(readFileSync(join(straight, file))), file).toBe(true);
        }
      }
    }
  });
});

describe("what a process that died while it gave a set its names has left", () => {
  test("is unfinished also where another model comes, or nothing is to be gone on with", async () => {
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    const other: SinkModel = { ...modelOf(tensors, { metadata: { of: "another" } }), version: "v1" };
    for (const how of [linkSync, renameSync]) {
      for (const [next, resume] of [
        [other, true],
        [many, false],
      ] as const) {
        const at = folder();
        const index = join(at, "model.safetensors.index.json");
        const first = shardedSafetensorsSink(index, { maxShardBytes: 70_000 });
        sinks.push(first);
        await first.open(many);
        await fill(first, many, 0, 6);
        await first.resumable!.checkpoint();
        const named = join(at, "model-00001-of-00003.safetensors");
        how(`${named}.part`, named);
        killed(at);
        const second = shardedSafetensorsSink(index, { maxShardBytes: 70_000, resume });
        sinks.push(second);
        await second.open(next);
        await second.abort(new TensorwireError("DIGEST_MISMATCH", "another one"));
        expect(listing(at)).toEqual([]);
      }
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
