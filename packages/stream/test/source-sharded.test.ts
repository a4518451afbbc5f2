import { mkdtemp, readdir, readlink, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ChunkPlan, serializeShardIndex, type TensorInfo, tensorBytes } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { shardedSafetensorsSource } from "../src/source/sharded.js";
import { pattern, poolFor, readWhole, safetensorsFile } from "./source-reading.js";

let folder: string;
let index: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-sharded-"));
  index = join(folder, "model.safetensors.index.json");
});
afterEach(() => rm(folder, { recursive: true }));

const info = (name: string, ...shape: number[]): TensorInfo => ({ name, dtype: "F32", shape });
const shardName = (i: number): string => `s-${String(i).padStart(5, "0")}.safetensors`;

interface Shard {
  readonly infos: readonly TensorInfo[];
  readonly metadata?: [string, string][];
}

/** Writes shards whose tensors hold `pattern(bytes, 100 × shard + place)`, and an index that agrees, or `map`. */
async function model(shards: readonly Shard[], map?: [string, string][]): Promise<void> {
  for (const [i, { infos, metadata }] of shards.entries()) {
    const options = { seed: 100 * i, ...(metadata && { metadata }) };
    await writeFile(join(folder, shardName(i)), safetensorsFile(infos, options));
  }
  const own = shards.flatMap(({ infos }, i) =>
    infos.map(({ name }): [string, string] => [name, shardName(i)]),
  );
  await writeFile(index, serializeShardIndex(map ?? own, { total_size: 1 }));
}

/** Files of the folder that this process has open. */
async function openFiles(): Promise<string[]> {
  const links = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ""));
  return (await Promise.all(links)).filter((target) => target.startsWith(folder));
}

test("tensors come shard by shard, each with its own bytes", async () => {
  await model([
    { infos: [info("b", 400, 400), info("a", 3)], metadata: [["format", "pt"]] },
    { infos: [info("none", 0), info("c", 5, 5), info("d", 300, 300)] },
    {
      infos: [info("e")],
      metadata: [
        ["format", "tf"],
        ["made", "by"],
      ],
    },
  ]);
  const { info: read, tensors, loans } = await readWhole(shardedSafetensorsSource(index), 1 << 18);
  expect(read.tensors.map(({ name }) => name)).toEqual(["b", "a", "none", "c", "d", "e"]);
  expect([...read.metadata]).toEqual([
    ["format", "pt"],
    ["made", "by"],
  ]);
  expect(read.header).toBeUndefined();
  const seeds = { b: 0, a: 1, none: 100, c: 101, d: 102, e: 200 };
  for (const [name, seed] of Object.entries(seeds)) {
    const bytes = tensors.get(name)!;
    expect(Buffer.compare(bytes, pattern(bytes.length, seed)), name).toBe(0);
  }
  expect(loans).toBe(0);
});

test("of 40 shards, 16 are open at most, in any order of reading, and none at the end", async () => {
  const shards = Array.from({ length: 40 }, (_, i) => ({
    infos: [info(`t${i}`, 100), info(`u${i}`, 70_000)],
  }));
  await model(shards);
  const source = shardedSafetensorsSource(index);
  const { tensors } = await source.open();
  const plan = new ChunkPlan(tensors, 1 << 20);
  const pool = poolFor(plan);
  expect(await openFiles()).toHaveLength(16);
  for (let i = 0; i < 80; i++) {
    const ordinal = (i * 27) % 80;
    const loan = await source.read(plan.chunk(ordinal), pool);
    const seed = 100 * (ordinal >> 1) + (ordinal & 1);
    expect(Buffer.compare(loan.bytes, pattern(tensorBytes(tensors[ordinal]!), seed))).toBe(0);
    loan.release();
    // The block that was read ahead of one shard, and not one for each.
    expect(pool.loans).toBeLessThanOrEqual(1);
  }
  expect(await openFiles()).toHaveLength(16);
  await source.verify!();
  await source.close();
  expect(await openFiles()).toEqual([]);
  expect(pool.loans).toBe(0);
});

test("the shard that was used last is not the one that is closed", async () => {
  await model(Array.from({ length: 17 }, (_, i) => ({ infos: [info(`t${i}`, 100)] })));
  const source = shardedSafetensorsSource(index);
  const { tensors } = await source.open();
  const plan = new ChunkPlan(tensors, 1 << 20);
  const pool = poolFor(plan);
  // Shard 0 was closed for shard 16, and 1 is the oldest then.
  for (const shard of [1, 0]) (await source.read(plan.chunk(shard), pool)).release();
  expect(await openFiles()).toContain(join(folder, shardName(1)));
  await source.close();
  expect(pool.loans).toBe(0);
});

describe("faults", () => {
  async function fails(expected: { code: string; tensor?: string; message?: unknown }): Promise<void> {
    const source = shardedSafetensorsSource(index);
    await expect(source.open()).rejects.toMatchObject(expected);
    await source.close();
    expect(await openFiles()).toEqual([]);
  }
  const two = [{ infos: [info("a", 2), info("b", 2)] }, { infos: [info("c", 2)] }];
  const [s0, s1] = [shardName(0), shardName(1)];

  test("a tensor that the index names and its shard lacks", async () => {
    await model(two, [
      ["a", s0],
      ["b", s0],
      ["c", s1],
      ["lost", s1],
    ]);
    await fails({
      code: "SOURCE_INVALID",
      tensor: "lost",
      message: expect.stringMatching(`"${index}": .*${s1}`),
    });
  });

  test("a tensor that the index does not name", async () => {
    await model(two, [
      ["a", s0],
      ["c", s1],
    ]);
    await fails({
      code: "SOURCE_INVALID",
      tensor: "b",
      message: expect.stringContaining("not in the index"),
    });
  });

  test("a tensor in another shard than the index says", async () => {
    await model(two, [
      ["a", s0],
      ["b", s1],
      ["c", s1],
    ]);
    await fails({
      code: "SOURCE_INVALID",
      tensor: "b",
      message: expect.stringContaining(`puts it in "${s1}"`),
    });
  });

  test("a tensor in two shards", async () => {
    await model(
      [...two, { infos: [info("a", 2), info("d", 2)] }],
      [
        ["a", s0],
        ["b", s0],
        ["c", s1],
        ["d", shardName(2)],
      ],
    );
    await fails({ code: "SOURCE_INVALID", tensor: "a", message: expect.stringContaining("two shards") });
  });

  test("a shard that is missing, broken, or over a limit of all shards together", async () => {
    await model(two);
    const limited = shardedSafetensorsSource(index, { limits: { maxTensors: 2 } });
    await expect(limited.open()).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await limited.close();
    await writeFile(join(folder, s1), pattern(100));
    await fails({ code: "SOURCE_INVALID", message: expect.stringContaining(`"${join(folder, s1)}"`) });
    await rm(join(folder, s1));
    await fails({ code: "SOURCE_READ", message: expect.stringContaining(`"${join(folder, s1)}"`) });
  });

  test("an index that is none", async () => {
    const named = expect.stringContaining(`"${index}"`);
    await fails({ code: "SOURCE_READ", message: named });
    await writeFile(index, "[]");
    await fails({ code: "SOURCE_INVALID", message: named });
    await writeFile(index, Uint8Array.of(0x7b, 0xff));
    await fails({ code: "SOURCE_INVALID", message: expect.stringContaining("not UTF-8") });
    await writeFile(index, '{"weight_map":{"a":"../a.safetensors"}}');
    await fails({ code: "SOURCE_INVALID", tensor: "a" });
  });

  test.each<[string, string]>([
    ["a shard that is open", shardName(19)],
    ["a shard that was closed meanwhile", shardName(1)],
    ["the index", "model.safetensors.index.json"],
  ])("%s changes after it was opened", async (_, file) => {
    await model(Array.from({ length: 20 }, (_, i) => ({ infos: [info(`t${i}`, 10)] })));
    const source = shardedSafetensorsSource(index);
    const { tensors } = await source.open();
    const plan = new ChunkPlan(tensors, 1 << 20);
    const pool = poolFor(plan);
    await source.verify!();
    await utimes(join(folder, file), 1, 1);
    await expect(source.verify!()).rejects.toMatchObject({
      code: "SOURCE_CHANGED",
      message: expect.stringContaining(`"${join(folder, file)}"`),
    });
    const closed = file === shardName(1);
    const reading = Promise.resolve(source.read(plan.chunk(1), pool)).then((loan) => loan.release());
    if (closed) await expect(reading).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
    else await reading;
    await rm(join(folder, file));
    await expect(source.verify!()).rejects.toMatchObject({ message: expect.stringContaining("was removed") });
    await source.close();
    expect(pool.loans).toBe(0);
  });
});
