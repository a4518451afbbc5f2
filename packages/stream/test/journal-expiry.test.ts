import { renameSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { parseDuration } from "../src/cli/durations.js";
import { receiveModel } from "../src/index.js";
import { Lock } from "../src/sink/lock.js";
import { openSink } from "../src/sink/open.js";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import type { ModelSink, SinkModel } from "../src/sink/sink.js";
import { fill, heldBy, INTERRUPTION, modelOfChunks } from "./journal-fixture.js";
import { failure, folder, listing, modelOf } from "./sink-fixture.js";

const DAY = 24 * 60 * 60 * 1000;
const model = modelOfChunks(4);

const sinks: ModelSink[] = [];
afterEach(async () => {
  for (const sink of sinks.splice(0)) await sink.abort(INTERRUPTION);
});

async function interrupted(path: string, daysAgo: number, of = model): Promise<void> {
  const sink = openSink(path, of.manifest, { parts: { maxAgeMs: Number.POSITIVE_INFINITY } }) as ModelSink;
  await sink.open(of);
  await fill(sink, of, 0, 2);
  await sink.abort(INTERRUPTION);
  touch(path, daysAgo);
}

function touch(path: string, daysAgo: number): void {
  const time = (Date.now() - daysAgo * DAY) / 1000;
  for (const suffix of [".part", ".part.journal"]) utimesSync(`${path}${suffix}`, time, time);
}

/** A path sink opens in the folder, for another file. */
async function opened(at: string, parts = {}, name = "new"): Promise<ModelSink> {
  const sink = openSink(join(at, name), model.manifest, { parts }) as ModelSink;
  sinks.push(sink);
  await sink.open(model);
  return sink;
}

const left = (at: string): string[] => listing(at).filter((name) => !name.startsWith("new"));
const traces = (...names: string[]): string[] =>
  names.flatMap((name) => [`${name}.part`, `${name}.part.journal`]);

describe("unfinished files in the folder", () => {
  test("are removed after seven days, where no other age is given", async () => {
    const at = folder();
    await interrupted(join(at, "a"), 6.9);
    await interrupted(join(at, "b"), 7.1);
    await opened(at);
    expect(left(at)).toEqual(traces("a"));
  });

  test("are removed after the age that is given", async () => {
    const at = folder();
    await interrupted(join(at, "a"), 0.5);
    await interrupted(join(at, "b"), 1.5);
    await opened(at, { maxAgeMs: DAY });
    expect(left(at)).toEqual(traces("a"));
    await opened(at, { maxAgeMs: 0 }, "new too");
    expect(left(at)).toEqual([]);
  });

  test("are removed where they take too much, the oldest first", async () => {
    const at = folder();
    for (const [name, daysAgo] of [
      ["a", 3],
      ["b", 1],
      ["c", 2],
    ] as const)
      await interrupted(join(at, name), daysAgo);
    await opened(at, { maxBytes: 140_000 });
    expect(left(at)).toEqual(traces("b", "c"));
    await opened(at, { maxBytes: 0 }, "new too");
    expect(left(at)).toEqual([]);
  });

  test("are no reason to refuse the model for want of room", async () => {
    const at = folder();
    await interrupted(join(at, "a"), 8);
    await opened(at, { maxBytes: 0 });
    expect(left(at)).toEqual([]);
  });

  test("stay where it is the one that is gone on with, however old", async () => {
    const at = folder();
    await interrupted(join(at, "new"), 100);
    const sink = await opened(at, { maxAgeMs: 0, maxBytes: 0 });
    expect(heldBy(sink.resumable!)).toEqual([0, 1]);
  });

  test("stay while somebody writes them", async () => {
    const at = folder();
    const lock = await Lock.take(join(at, "a.part.lock"), "a");
    await lock.release();
    await interrupted(join(at, "a"), 8);
    const taken = await Lock.take(join(at, "a.part.lock"), "a");
    await opened(at);
    expect(left(at)).toEqual([...traces("a"), "a.part.lock"].sort());
    await taken.release();
    await opened(at, {}, "new too");
    expect(left(at)).toEqual([]);
  });

  test("go as a whole where they are the shards of a set", async () => {
    const at = folder();
    const tensors = Array.from(
      { length: 6 },
      (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
    );
    const many: SinkModel = { ...modelOf(tensors), version: "v1" };
    const sink = shardedSafetensorsSink(join(at, "model.safetensors.index.json"), { maxShardBytes: 70_000 });
    await sink.open(many);
    await fill(sink, many, 0, 5);
    await sink.abort(INTERRUPTION);
    expect(left(at)).toHaveLength(5);
    await opened(at, { maxAgeMs: DAY });
    expect(left(at)).toHaveLength(5);
    await opened(at, { maxAgeMs: -1 }, "new too");
    expect(left(at)).toEqual([]);
  });

  test("of others stay: files without a journal, with one of another file, links, and what only looks like it", async () => {
    const at = folder();
    writeFileSync(join(at, "download.part"), "another program's");
    writeFileSync(join(at, "text.part.journal"), "dear diary");
    writeFileSync(join(at, "victim"), "precious");
    await interrupted(join(at, "a"), 8);
    // A journal whose part file is another one now.
    renameSync(join(at, "a.part"), join(at, "elsewhere"));
    writeFileSync(join(at, "a.part"), "another program's");
    symlinkSync("victim", join(at, "link.part.journal"));
    await opened(at, { maxAgeMs: -1, maxBytes: 0 });
    expect(left(at)).toEqual([
      "a.part",
      "download.part",
      "elsewhere",
      "link.part.journal",
      "text.part.journal",
      "victim",
    ]);
  });

  test("are bounded by numbers", async () => {
    const parts = { maxAgeMs: Number.NaN };
    const error = await failure(receiveModel("ws://127.0.0.1:1", { to: "x", parts }).done);
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toContain("parts.maxAgeMs");
  });
});

test("a time is a number and its unit", () => {
  const times = ["0", "500ms", "30s", "1.5m", "12h", "7d", "7 D"].map((text) => parseDuration(text, "--x"));
  expect(times).toEqual([0, 500, 30_000, 90_000, 12 * 3_600_000, 7 * DAY, 7 * DAY]);
  for (const text of ["", "7", "-1s", "1w", "d", "1h30m"]) {
    expect(() => parseDuration(text, "--x"), text).toThrow(/--x takes a time such as/);
  }
});
