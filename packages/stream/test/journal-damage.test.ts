import { readFileSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { ChunkDigest } from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import { encodeHead, journalHead, MAX_HEAD_BYTES, parseHead } from "../src/journal/head.js";
import { encodeRecord, type JournalRecord, parseRecord, RECORD_HEAD_BYTES } from "../src/journal/record.js";
import { type Replayed, replay } from "../src/journal/replay.js";
import { rawFileSink } from "../src/sink/raw-file.js";
import type { SinkModel } from "../src/sink/sink.js";
import { contentOf, digestOf, fill, heldBy, INTERRUPTION, killed } from "./journal-fixture.js";
import { cleanup, folder, modelOf, noise } from "./sink-fixture.js";

const model: SinkModel = {
  ...modelOf([{ name: "file", dtype: "U8", shape: [20 * 32_768] }], { kind: "raw" }),
  version: "v1",
};
const topic = journalHead(model, ["raw"]);

const sinks: { abort: (error: typeof INTERRUPTION) => Promise<void> }[] = [];
afterEach(async () => {
  for (const sink of sinks.splice(0)) await sink.abort(INTERRUPTION);
});

/** What a process leaves that dies after these steps. */
async function leave(
  path: string,
  steps: (sink: ReturnType<typeof rawFileSink>) => Promise<void>,
): Promise<void> {
  const sink = rawFileSink(path);
  sinks.push(sink);
  await sink.open(model);
  await steps(sink);
  killed(join(path, ".."));
}

/** Replays bytes as a journal. */
async function reading(): Promise<(bytes: Uint8Array) => Promise<Replayed | undefined>> {
  const file = await open(join(folder(), "journal"), "wx+");
  cleanup(() => void file.close());
  return async (bytes) => {
    await file.truncate(0);
    await file.write(bytes, 0, bytes.length, 0);
    return replay(file, topic);
  };
}

const ordinals = (replayed: Replayed | undefined): number[] | undefined =>
  replayed?.held && heldBy({ held: replayed.held.runs() } as never);

describe("a journal that only grew", () => {
  const checkpoints = [3, 4, 9];
  async function journal(): Promise<Buffer> {
    const path = join(folder(), "file");
    await leave(path, async (sink) => {
      let from = 0;
      for (const to of checkpoints) {
        await fill(sink, model, from, to);
        await sink.resumable!.checkpoint();
        from = to;
      }
    });
    return readFileSync(`${path}.part.journal`);
  }
  const prefixes = [0, ...checkpoints].map((to) => Array.from({ length: to }, (_, i) => i));

  test("holds what its whole records note, cut at any byte", async () => {
    const bytes = await journal();
    const read = await reading();
    const found = new Set<number>();
    let least = 0;
    for (let cut = 0; cut <= bytes.length; cut++) {
      const held = ordinals(await read(bytes.subarray(0, cut)));
      if (!held) {
        expect(cut).toBeLessThan(MAX_HEAD_BYTES);
        continue;
      }
      expect(prefixes).toContainEqual(held);
      expect(held.length).toBeGreaterThanOrEqual(least);
      least = held.length;
      found.add(least);
    }
    expect([...found]).toEqual([0, ...checkpoints]);
  });

  test("is not believed where a bit is flipped, nor behind it", async () => {
    const bytes = await journal();
    const read = await reading();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const held = ordinals(await read(damaged));
      // The last record is as long as the others, and no flip leaves it whole.
      if (held) expect(prefixes.slice(0, -1), `bit ${bit}`).toContainEqual(held);
    }
  });

  test("does not take the records of another journal, nor its own in another place", async () => {
    const [one, two] = [await journal(), await journal()];
    const read = await reading();
    const { bytes: at } = parseHead(one)!;
    // The two are the same but for the inodes in their first records.
    const first = at + RECORD_HEAD_BYTES + one.readUInt32LE(at);
    expect(ordinals(await read(Buffer.concat([one.subarray(0, first), two.subarray(first)])))).toHaveLength(
      3,
    );
    expect(ordinals(await read(Buffer.concat([one.subarray(0, at), one.subarray(first)])))).toHaveLength(0);
    const twice = Buffer.concat([one.subarray(0, first), one.subarray(at)]);
    expect(ordinals(await read(twice))).toHaveLength(3);
  });
});

describe("a journal that has forgotten", () => {
  test("never gives back a chunk as it was before it was replaced, whatever bit is flipped, wherever it is cut", async () => {
    const path = join(folder(), "file");
    await leave(path, async (sink) => {
      await fill(sink, model, 0, 9);
      await sink.resumable!.checkpoint();
      await sink.resumable!.forget(model.plan.chunk(2));
      await fill(sink, model, 2, 3, 1);
      await sink.resumable!.checkpoint();
    });
    const bytes = readFileSync(`${path}.part.journal`);
    const read = await reading();
    // What is in the file.
    const truth = (ordinal: number): ChunkDigest =>
      digestOf(contentOf(model.plan.chunk(ordinal), ordinal === 2 ? 1 : 0));
    const check = (replayed: Replayed | undefined, what: string): number => {
      const runs = replayed?.held?.runs() ?? [];
      for (const { first, chunks } of runs) {
        expect(chunks, what).toEqual(chunks.map((_, i) => truth(first + i)));
      }
      return runs.length;
    };
    expect(check(await read(bytes), "whole")).toBeGreaterThan(0);
    let believed = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      believed += check(await read(damaged), `bit ${bit}`);
    }
    // Damage behind the last thing that was forgotten does not take away what was before.
    expect(believed).toBeGreaterThan(0);
    for (let cut = 0; cut < bytes.length; cut++) check(await read(bytes.subarray(0, cut)), `cut at ${cut}`);
  });
});

describe("the bytes of a journal", () => {
  test("give back what was put into them", () => {
    for (const version of [undefined, "v", "\u{1f980}".repeat(64), "é".repeat(128)]) {
      for (const integrity of ["xxh64", "sha256"] as const) {
        const bytes = encodeHead({ ...topic, version }, integrity);
        const { manifest, layout, chunks } = topic;
        expect(parseHead(bytes)).toMatchObject({ version, integrity, chunks, floor: 0, bytes: bytes.length });
        expect(parseHead(bytes)!.manifest).toEqual(new Uint8Array(manifest));
        expect(parseHead(bytes)!.layout).toEqual(new Uint8Array(layout));
      }
    }
    const record: JournalRecord = {
      mixed: true,
      files: [
        { name: "weights-ü", dev: 2n ** 64n - 1n, ino: 7n, birthNs: 3n, size: 2 ** 40 },
        { name: "b", dev: 0n, ino: 0n, birthNs: 0n, size: 0 },
      ],
      noted: new Uint8Array(0),
      runs: 0,
      forgotten: [{ first: 3, count: 2 ** 24 }],
      tail: noise(100, 1),
    };
    const { bytes } = encodeRecord(record, 5n);
    const [head, body] = [bytes.subarray(0, RECORD_HEAD_BYTES), bytes.subarray(RECORD_HEAD_BYTES)];
    expect(parseRecord(head, body, 5n, "xxh64")).toEqual(record);
    expect(parseRecord(head, body, 6n, "xxh64")).toBeUndefined();
  });

  test("with sha256 hold it, and give it back", async () => {
    const path = join(folder(), "file");
    const sha256 = noise(32, 9);
    await leave(path, async (sink) => {
      const chunk = model.plan.chunk(0);
      const bytes = contentOf(chunk);
      const digest = { ...digestOf(bytes), sha256 };
      await sink.write(chunk, bytes);
      sink.resumable!.note(chunk, digest);
      await sink.resumable!.checkpoint();
    });
    const read = await reading();
    const replayed = await read(readFileSync(`${path}.part.journal`));
    expect(replayed!.held!.runs()).toEqual([
      { first: 0, chunks: [{ ...digestOf(contentOf(model.plan.chunk(0))), sha256 }] },
    ]);
  });

  test("of a damaged head are in the way, and of a damaged tail are not", async () => {
    for (const place of [40, -1]) {
      const path = join(folder(), "file");
      const first = rawFileSink(path);
      await first.open(model);
      await fill(first, model, 0, 5);
      await first.resumable!.checkpoint();
      await fill(first, model, 5, 8);
      await first.abort(INTERRUPTION);
      const bytes = readFileSync(`${path}.part.journal`);
      bytes[place < 0 ? bytes.length + place : place]! ^= 1;
      writeFileSync(`${path}.part.journal`, bytes);
      const second = rawFileSink(path);
      if (place > 0) {
        await expect(second.open(model)).rejects.toMatchObject({ code: "TARGET_EXISTS" });
        continue;
      }
      await second.open(model);
      expect(heldBy(second.resumable!)).toEqual([0, 1, 2, 3, 4]);
      // Records are joined to the last good one.
      await fill(second, model, 5, 6);
      await second.abort(INTERRUPTION);
      const third = rawFileSink(path);
      await third.open(model);
      expect(heldBy(third.resumable!)).toEqual([0, 1, 2, 3, 4, 5]);
      await third.abort(INTERRUPTION);
    }
  });
});
