import {
  BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type Loan,
  type ModelInfo,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { type ModelSource, READ_AHEAD_BYTES } from "../source/source.js";
import type { SampleTensor } from "./sample-model.js";

/** A fresh source of a model, not open, and what it must give. */
export interface SourceUnderTest {
  /** A new one, not open. */
  readonly source: ModelSource;
  /** In any order. */
  readonly tensors: readonly SampleTensor[];
}

/**
 * What any source must do. `make` gives a new one for each test.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * sourceSuite("safetensors file", async () => ({ source: safetensorsSource("sample.safetensors"), tensors: sampleTensors() }));
 */
export function sourceSuite(name: string, make: () => Promise<SourceUnderTest>): void {
  describe(`source suite: ${name}`, () => {
    test("says what the model is", async () => {
      const { source, tensors } = await make();
      const model = await source.open();
      const order = model.tensors.map((info) => tensors.findIndex((tensor) => tensor.name === info.name));
      expect(order.toSorted((a, b) => a - b)).toEqual(tensors.map((_, i) => i));
      order.forEach((at, i) => {
        const { dtype, shape } = tensors[at]!;
        expect(model.tensors[i]).toEqual({ name: tensors[at]!.name, dtype, shape });
      });
      expect(source.name.length).toBeGreaterThan(0);
      await source.close();
    });

    test.each([32_768, 65_536, 1 << 20])("gives every byte, in chunks of %i", async (chunkBytes) => {
      await reading(make, chunkBytes, async ({ read, expected, plan }) => {
        for (const chunk of plan.walk()) {
          const loan = await read(chunk);
          expect(Buffer.compare(loan.bytes, expected(chunk)), `chunk ${chunk.ordinal}`).toBe(0);
          loan.release();
        }
      });
    });

    test("leaves what it lent alone while it reads on", async () => {
      await reading(make, 32_768, async ({ read, expected, plan }) => {
        const held: { chunk: Chunk; loan: Loan }[] = [];
        const check = ({ chunk, loan }: { chunk: Chunk; loan: Loan }): void => {
          expect(Buffer.compare(loan.bytes, expected(chunk)), `chunk ${chunk.ordinal}`).toBe(0);
          loan.release();
        };
        for (const chunk of plan.walk()) {
          held.push({ chunk, loan: await read(chunk) });
          // A window's worth is out at once; within a tensor, so that one-shot sources may move on between tensors.
          if (held.length === 8 || chunk.index === plan.range(chunk.tensor).count - 1)
            held.splice(0).forEach(check);
        }
      });
    });

    test("can be read again from any chunk on, unless it says that it is read once", async () => {
      await reading(make, 32_768, async ({ read, expected, plan, oneShot }) => {
        // An interruption at each of a few places, with what was read before it lost.
        const from = oneShot ? [0] : [0, Math.floor(plan.chunks / 2), plan.chunks - 1, 1, 0];
        for (const [at, first] of from.entries()) {
          if (first >= plan.chunks) continue;
          const count = at === from.length - 1 ? plan.chunks - first : Math.min(3, plan.chunks - first);
          for (const chunk of plan.walk([{ first, count }])) {
            const loan = await read(chunk);
            expect(Buffer.compare(loan.bytes, expected(chunk)), `chunk ${chunk.ordinal}`).toBe(0);
            loan.release();
          }
        }
      });
    });

    test("takes no more of the pool than it says", async () => {
      await reading(make, 65_536, async ({ read, plan, pool, slabs }) => {
        for (const chunk of plan.walk()) (await read(chunk)).release();
        expect(pool.heldBytes / pool.slabBytes).toBeLessThanOrEqual(1 + slabs);
      });
    });

    test("is told what will be asked for", async () => {
      await reading(make, 32_768, async ({ read, expected, plan, want }) => {
        const first = Math.floor(plan.chunks / 3);
        const runs = [
          { first: 0, count: Math.min(1, first) },
          { first, count: plan.chunks - first },
        ].filter(({ count }) => count > 0);
        want(runs);
        for (const chunk of plan.walk(runs)) {
          const loan = await read(chunk);
          expect(Buffer.compare(loan.bytes, expected(chunk)), `chunk ${chunk.ordinal}`).toBe(0);
          loan.release();
        }
      });
    });

    test("can be closed before it is read, in the middle, and without having been open", async () => {
      const { source: unopened } = await make();
      await unopened.close();
      const { source: unread } = await make();
      await unread.open();
      await unread.close();
      const { source } = await make();
      const model = await source.open();
      const plan = new ChunkPlan(model.tensors, source.chunkBytes ?? 32_768);
      const pool = new BufferPool(READ_AHEAD_BYTES);
      const [first] = plan.walk();
      const loan = await source.read(first!, pool);
      await source.close();
      loan.release();
      expect(pool.loans).toBe(0);
    });
  });
}

interface Reading {
  readonly plan: ChunkPlan;
  readonly pool: BufferPool;
  /** What it says that it takes of the pool besides what it lends. */
  readonly slabs: number;
  readonly oneShot: boolean;
  want(runs: readonly ChunkRange[]): void;
  read(chunk: Chunk): Loan | Promise<Loan>;
  expected(chunk: Chunk): Uint8Array;
}

async function reading(
  make: () => Promise<SourceUnderTest>,
  chunkBytes: number,
  work: (reading: Reading) => Promise<void>,
): Promise<void> {
  const { source, tensors } = await make();
  const model: ModelInfo = await source.open();
  const plan = new ChunkPlan(model.tensors, source.chunkBytes ?? chunkBytes);
  const pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES));
  const slabs = source.memory?.(plan).slabs ?? 1;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor.data]));
  await work({
    plan,
    pool,
    slabs,
    oneShot: source.oneShot === true,
    want: (runs) => source.want?.(runs),
    read: (chunk) => source.read(chunk, pool),
    expected: ({ tensor, offset, bytes }) =>
      byName.get(model.tensors[tensor]!.name)!.subarray(offset, offset + bytes),
  });
  await source.verify?.();
  await source.close();
  expect(pool.loans, "loans that are still out").toBe(0);
}
