import { describe, expect, test } from "vitest";
import { MemoryBudget, transferModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failure } from "./sink-fixture.js";
import { KiB, model, sinkOf, small, sourceOf, WINDOW } from "./transfer-model-fixture.js";

checksLoans();

describe("it takes half a window", () => {
  test.each([
    ["none", 40],
    ["blockwise8", 40],
  ])("of source bytes, with %s, when the sink takes its time", async (codec, chunks) => {
    let [read, written, most] = [0, 0, 0];
    const source = sourceOf(chunks, ({ bytes }) => {
      read += bytes;
      most = Math.max(most, read - written);
    });
    const sink = sinkOf(async ({ bytes }) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      written += bytes;
    });
    await transferModel(source, sink, { ...small, codec });
    // Credit is taken before a chunk is read: what the receiver has granted bounds both ends.
    expect(most).toBe(WINDOW / 2);
  });

  test("and of a budget that both ends share, both minimums or nothing: many at once do not stand still", async () => {
    // Room for two transfers at their minimums, and for the receiving end of all of them.
    const budget = new MemoryBudget(2 * 1024 * KiB * 3);
    let [now, most] = [0, 0];
    const one = async (): Promise<void> => {
      const sink = sinkOf(async () => {
        most = Math.max(most, budget.transfers);
        now++;
      });
      await transferModel(
        sourceOf(12, () => {}),
        sink,
        { ...small, budget },
      );
    };
    await Promise.all(Array.from({ length: 12 }, one));
    expect(now).toBe(12 * 12);
    expect(most).toBeGreaterThanOrEqual(2);
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("of a budget that is too small for both it says so", async () => {
    const budget = new MemoryBudget(100 * KiB);
    const error = await failure(
      transferModel(
        model,
        sinkOf(() => undefined),
        { ...small, budget },
      ),
    );
    expect(error.code).toBe("LIMIT_EXCEEDED");
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("one that is cancelled while it waits for memory takes none", async () => {
    const budget = new MemoryBudget(3 * 1024 * KiB);
    const controller = new AbortController();
    let go!: () => void;
    const held = new Promise<void>((resolve) => (go = resolve));
    const first = transferModel(
      sourceOf(12, () => {}),
      sinkOf(() => held),
      { ...small, budget },
    );
    while (budget.transfers < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    const second = transferModel(
      sourceOf(12, () => {}),
      sinkOf(() => undefined),
      {
        ...{ ...small, budget, signal: controller.signal },
      },
    );
    while (budget.waiting < 1) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort();
    expect((await failure(second)).code).toBe("ABORTED");
    expect([budget.transfers, budget.waiting]).toEqual([2, 0]);
    go();
    await first;
    expect([budget.reservedBytes, budget.transfers]).toEqual([0, 0]);
  });
});
