import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BufferPool, ChunkPlan } from "@tensorwire/core";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import {
  type AggregateOptions,
  aggregate,
  cast,
  type ClientSources,
  delta,
  MemoryBudget,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { READ_AHEAD_BYTES } from "../src/source/source.js";
import { pack, values } from "./aggregate-fixture.js";
import { poolFor } from "./source-reading.js";

let folder: string;
let files = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-aggregate-memory-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => {
  vi.restoreAllMocks();
});

const CHUNK = 1 << 20;

/** Large tensors, and many small ones, which are read ahead. */
function model(client: number, large: number): TensorMap {
  const tensors: [string, TensorMap[never]][] = [];
  for (let t = 0; t < large; t++) {
    const elements = 270_000;
    tensors.push([
      `large${t}`,
      { dtype: "F32", shape: [elements], data: values(client + t, elements) } as never,
    ]);
    for (let s = 0; s < 40; s++) {
      tensors.push([
        `small${t}.${s}`,
        { dtype: "F32", shape: [300], data: values(client + s, 300) } as never,
      ]);
    }
  }
  return new Map(tensors);
}

async function artifacts(clients: number, large: number, codec: string): Promise<string[]> {
  const paths: string[] = [];
  for (let client = 0; client < clients; client++) {
    paths.push(await pack(join(folder, `${files++}.twire`), model(client, large), codec, CHUNK));
  }
  return paths;
}

interface Peak {
  /** Bytes that all pools of buffers held at once, at most, from the first chunk on. */
  held: number;
  /** The same while it was opened. */
  opening: number;
  /** What it says that it takes, with the chunk that it gives. */
  stated: number;
  readonly slabBytes: number;
}

/** Reads it as a sender with one chunk in its lane. */
async function peak(sources: ClientSources, options: AggregateOptions): Promise<Peak> {
  const pools = new Set<BufferPool>();
  let most = 0;
  const { lend } = BufferPool.prototype;
  const spy = vi.spyOn(BufferPool.prototype, "lend").mockImplementation(function (this: BufferPool, bytes) {
    pools.add(this);
    const loan = lend.call(this, bytes);
    most = Math.max(
      most,
      [...pools].reduce((sum, { heldBytes }) => sum + heldBytes, 0),
    );
    return loan;
  });
  const source = aggregate(sources, options);
  const { tensors } = await source.open();
  const opening = most;
  most = 0;
  const plan = new ChunkPlan(tensors, source.chunkBytes!);
  const pool = poolFor(plan);
  for (const chunk of plan.walk()) {
    const loan = await source.read(chunk, pool);
    loan.release();
  }
  expect(pool.loans).toBe(0);
  const { slabs, bytes } = source.memory!(plan);
  await source.close();
  spy.mockRestore();
  return { held: most, opening, stated: (slabs + 1) * pool.slabBytes + bytes, slabBytes: pool.slabBytes };
}

describe("the memory of an aggregate", () => {
  test.each([["normfloat4"], ["none"], ["lossless"]])(
    "of %s is that of one sum and one payload, whatever the clients and the model",
    async (codec) => {
      const few = await peak(await artifacts(2, 2, codec), {});
      const many = await peak(await artifacts(12, 2, codec), {});
      const large = await peak(await artifacts(2, 4, codec), {});
      for (const { held, opening, stated, slabBytes } of [few, many, large]) {
        expect(held).toBeLessThanOrEqual(stated);
        expect(opening).toBeLessThanOrEqual(3 * slabBytes + 2 * READ_AHEAD_BYTES);
        // The chunk itself, a payload, and what is read ahead; of what is packed, room for it unpacked.
        const chunks = codec === "lossless" ? 3 : 2;
        expect(held).toBeLessThanOrEqual(chunks * slabBytes + 2 * READ_AHEAD_BYTES);
      }
      // What is read ahead of small tensors is shared out; all else is the same.
      expect(many.held).toBeLessThanOrEqual(few.held + 1.2 * READ_AHEAD_BYTES);
      expect(large.held).toBe(few.held);
      expect(many.stated).toBeLessThanOrEqual(few.stated);
      expect(large.stated).toBe(few.stated);
    },
  );

  test("of a robust mean is a decoded chunk a client", async () => {
    const paths = await artifacts(5, 2, "normfloat4");
    const { held, stated, slabBytes } = await peak(paths, { method: "median" });
    expect(held).toBeLessThanOrEqual(stated);
    expect(held).toBeGreaterThan(5 * slabBytes);
    expect(held).toBeLessThanOrEqual((5 + 1 + 2) * slabBytes + 2 * READ_AHEAD_BYTES);
  });

  test("of clients that are computed is theirs in turn, and what each keeps for its next chunk", async () => {
    const paths = await artifacts(12, 2, "none");
    const halves: string[] = [];
    for (const path of paths) {
      halves.push(join(folder, `${files++}.twire`));
      await streamModel(cast(path, "F16"), halves.at(-1)!);
    }
    const deltas = await peak(
      paths.map((path) => delta(path, paths[0]!, { baseDigest: `sha256:${"0".repeat(64)}` })),
      {},
    );
    expect(deltas.held).toBeLessThanOrEqual(deltas.stated);
    expect(deltas.held).toBeLessThanOrEqual(6 * deltas.slabBytes + 2 * READ_AHEAD_BYTES);
    // Half a chunk of each is left for the next one.
    for (const options of [{}, { method: "median" }] as const) {
      const { held, stated } = await peak(
        halves.map((path) => cast(path, "F32")),
        options,
      );
      expect(held).toBeLessThanOrEqual(stated);
    }
    const nested = await peak([aggregate(halves.map((path) => cast(path, "F32"))), ...paths], {});
    expect(nested.held).toBeLessThanOrEqual(nested.stated);
  });

  test("has sums of its own where they are wider than what they become", async () => {
    const stated = async (options: AggregateOptions) => {
      const source = aggregate([model(1, 1), model(2, 1)], options);
      const { tensors } = await source.open();
      const { bytes } = source.memory!(new ChunkPlan(tensors, CHUNK));
      await source.close();
      return bytes;
    };
    expect((await stated({})) - (await stated({ accumulator: "f32" }))).toBe(8 * (CHUNK / 4));
  });

  test("is part of the budget: a transfer whose least is over it is refused", async () => {
    const paths = await artifacts(5, 1, "normfloat4");
    const to = join(folder, "never.twire");
    const sources = aggregate(paths, { method: "median" });
    const sending = streamModel(sources, to, { budget: new MemoryBudget(6 * CHUNK), windowBytes: 2 * CHUNK });
    await expect(sending).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    const mean = aggregate(paths);
    const summary = await streamModel(mean, to, {
      budget: new MemoryBudget(12 * CHUNK),
      windowBytes: 2 * CHUNK,
    });
    expect(summary.tensors).toBe(41);
  });

  test("is given back when it is closed in the middle", async () => {
    const [path] = await artifacts(1, 1, "none");
    const source = aggregate([path!, path!]);
    const { tensors } = await source.open();
    const plan = new ChunkPlan(tensors, CHUNK);
    const pool = poolFor(plan);
    const reading = Promise.resolve(source.read(plan.chunk(0), pool));
    await source.close();
    const loan = await reading.catch(() => undefined);
    loan?.release();
    expect(pool.loans).toBe(0);
    await expect(source.read(plan.chunk(1), pool)).rejects.toMatchObject({ code: "ABORTED" });
    expect(pool.loans).toBe(0);
  });
});
