import { afterEach, describe, expect, test, vi } from "vitest";
import { ChunkPlan } from "@tensorwire/core";
import { type AggregateOptions, aggregate, modelDigest, type TensorMap } from "../src/index.js";
import { update, values } from "./aggregate-fixture.js";
import { poolFor } from "./source-reading.js";

afterEach(() => {
  vi.restoreAllMocks();
});

/** How often others had their turn while something was computed, on a machine that takes a second for every step of it. */
async function turnsOfOthers(work: () => Promise<unknown>): Promise<number> {
  let now = 0;
  vi.spyOn(performance, "now").mockImplementation(() => (now += 1000));
  let turns = 0;
  let next: NodeJS.Immediate;
  const count = (): void => {
    turns++;
    next = setImmediate(count);
  };
  next = setImmediate(count);
  await work();
  clearImmediate(next);
  return turns;
}

const ELEMENTS = 20_000;

function model(client: number): TensorMap {
  return {
    w: { dtype: "F32", shape: [ELEMENTS], data: values(client, ELEMENTS) },
    steps: { dtype: "I64", shape: [2], data: BigInt64Array.of(1n, BigInt(client)) },
  };
}

describe("models in memory leave others their turn", () => {
  test("while a digest is found", async () => {
    expect(await turnsOfOthers(() => modelDigest(update(1)))).toBeGreaterThanOrEqual(2);
  });

  test("while clients are looked through for their norms, so that a signal can end it", async () => {
    const clients = Array.from({ length: 20 }, (_, i) => model(i));
    const ending = new AbortController();
    const mean = aggregate(clients, { clipNorm: 1, signal: ending.signal });
    setImmediate(() => ending.abort());
    await turnsOfOthers(() => expect(mean.open()).rejects.toMatchObject({ code: "ABORTED" }));
    await mean.close();
  });

  test.each<[AggregateOptions, number]>([
    [{ method: "median" }, 0],
    [{ integers: "mean-round" }, 1],
  ])("while a chunk is made: %j", async (options, tensor) => {
    const mean = aggregate([model(1), model(2), model(3), model(4)], options);
    const { tensors } = await mean.open();
    const plan = new ChunkPlan(tensors, 1 << 20);
    const pool = poolFor(plan);
    const reading = async (): Promise<void> =>
      (await mean.read(plan.chunk(plan.range(tensor).first), pool)).release();
    expect(await turnsOfOthers(reading)).toBeGreaterThanOrEqual(3);
    await mean.close();
    expect(pool.loans).toBe(0);
  });
});
