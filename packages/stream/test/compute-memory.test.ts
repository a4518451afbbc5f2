import { BufferPool, ChunkPlan, type Loan } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { apply, artifactSource, cast, delta, select } from "../src/index.js";
import { type ModelSource, READ_AHEAD_BYTES } from "../src/source/source.js";
import { artifactOf, base, hasFolder, wave } from "./delta-fixture.js";

hasFolder();

describe("what computed sources are made of", () => {
  // Four models deep, each tensor many times a chunk: what is in memory is chunks.
  test("takes chunks of the pool, and no more than it says, however large the tensors are", async () => {
    const large = (seed: number) => ({ w: wave(1 << 21, seed), v: wave(1 << 20, seed / 2) });
    const [one, two] = await Promise.all(
      [0.1, 0.2].map((seed, i) =>
        artifactOf(`large-${i}.twire`, large(seed), { chunkBytes: 1 << 20, codec: "blockwise8" }),
      ),
    );
    const source = apply(one!, delta(two!, one!));
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, source.chunkBytes!);
    const pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES));
    const { slabs, bytes } = source.memory!(plan);
    for (const chunk of plan.walk()) {
      const loan = await source.read(chunk, pool);
      expect(pool.loans).toBe(1);
      loan.release();
    }
    expect(plan.chunks).toBe(12);
    expect(bytes).toBe(0);
    expect(pool.heldBytes).toBeLessThanOrEqual((1 + slabs) * pool.slabBytes);
    expect(slabs).toBeLessThan(12);
    await source.close();
    expect(pool.loans).toBe(0);
  });

  test("gives back what it holds of a chunk when it is closed, and what was still being read then", async () => {
    const path = await artifactOf("held.twire", { w: wave(40_000, 0.1) }, { chunkBytes: 57_344 });
    const source = cast(path, "BF16");
    const plan = new ChunkPlan((await source.open()).tensors, source.chunkBytes!);
    const pool = new BufferPool(READ_AHEAD_BYTES);
    (await source.read(plan.chunk(0), pool)).release();
    // 28,672 elements lie in three chunks of 12,288, and some of the third are to come.
    expect(pool.loans).toBe(1);
    await source.close();
    expect(pool.loans).toBe(0);

    const slow: ModelSource = {
      name: "slow",
      chunkBytes: 32_768,
      open: async () => ({
        kind: "model",
        tensors: [{ name: "w", dtype: "F32", shape: [8192] }],
        metadata: new Map(),
      }),
      read: async ({ bytes }, lender) => {
        await closing.close();
        return lender.lend(bytes);
      },
      close: async () => {},
    };
    const closing = cast(slow, "F16");
    const { tensors } = await closing.open();
    const reading = closing.read(new ChunkPlan(tensors, 32_768).chunk(0), pool);
    await expect(reading).rejects.toMatchObject({ code: "ABORTED" });
    expect(pool.loans).toBe(0);
  });

  test("gives everything back where it fails in the middle of a chunk, or is closed then", async () => {
    const path = await artifactOf("failing.twire", base, { chunkBytes: 57_344 });
    for (const fail of [true, false]) {
      const inner = select(artifactSource(path), ["*"]);
      const { readEncoded } = inner;
      let reads = 0;
      let close: (() => Promise<void>) | undefined;
      Object.assign(inner, {
        readEncoded: async (...args: Parameters<typeof readEncoded>) => {
          if (++reads === 4) {
            if (fail) throw new Error("torn");
            await close!();
          }
          return readEncoded.apply(inner, args);
        },
      });
      const source = cast(inner, "F16");
      close = () => source.close();
      const plan = new ChunkPlan((await source.open()).tensors, source.chunkBytes!);
      const pool = new BufferPool(READ_AHEAD_BYTES);
      const loans: Loan[] = [];
      const reading = (async () => {
        for (const chunk of plan.walk()) loans.push(await source.read(chunk, pool));
      })();
      await expect(reading).rejects.toThrow(fail ? /torn/ : /./);
      for (const loan of loans) loan.release();
      await source.close();
      expect(pool.loans).toBe(0);
    }
  });
});
