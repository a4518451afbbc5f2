import { linkSync, readFileSync, renameSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { shardedSafetensorsSink } from "../src/sink/sharded.js";
import type { ModelSink, SinkModel } from "../src/sink/sink.js";
import { sinks } from "./interrupted-file.js";
import { contentOf, fill, heldBy, INTERRUPTION, killed } from "./journal-fixture.js";
import { failure, folder, listing, modelOf, TOTALS } from "./sink-fixture.js";

/** A chunk each: two of them, or three, fill a shard. */
const tensors = Array.from(
  { length: 6 },
  (_, i) => ({ name: `t${i}`, dtype: "U8", shape: [32_768] }) as const,
);
const many: SinkModel = { ...modelOf(tensors), version: "v1" };

describe("an interrupted transfer", () => {
  test("in shards of another size is replaced", async () => {
    const at = folder();
    const index = join(at, "model.safetensors.index.json");
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
});

describe("a process that dies while the files of a set get their names", () => {
  test("leaves a set of files of which some have names, and the next call goes on with all of them", async () => {
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
