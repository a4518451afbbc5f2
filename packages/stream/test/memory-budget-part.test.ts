import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBudget } from "../src/budget/memory-budget.js";
import { steps, Transfer, turn } from "./memory-budget-fixture.js";

describe("a budget within another, whatever its transfers do", () => {
  test("exceeds neither, keeps nobody waiting for ever, and is whole again at the end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 90, max: 1000 }),
        fc.integer({ min: 90, max: 1000 }),
        fc.array(fc.tuple(steps, fc.boolean()), { maxLength: 80 }),
        async (bytes, partBytes, all) => {
          const whole = new MemoryBudget(bytes);
          const part = new MemoryBudget(Math.min(bytes, partBytes), whole);
          const inPart: Transfer[] = [];
          const transfers: Transfer[] = [];
          const check = (): void => {
            const sum = (of: readonly Transfer[]): number => of.reduce((held, each) => held + each.held, 0);
            expect(sum(transfers)).toBeLessThanOrEqual(whole.reservedBytes);
            expect(whole.reservedBytes).toBeLessThanOrEqual(whole.bytes);
            expect(sum(inPart)).toBeLessThanOrEqual(part.reservedBytes);
            expect(part.reservedBytes).toBeLessThanOrEqual(part.bytes);
          };
          for (const [{ kind, of, amount }, isPart] of all) {
            const transfer = transfers[of % Math.max(1, transfers.length)];
            if (kind === "open") {
              const next = new Transfer(amount);
              transfers.push(next);
              if (isPart) inPart.push(next);
              void next.open(isPart ? part : whole);
            } else if (transfer) {
              if (kind === "close") transfer.share?.close();
              if (kind === "abort") transfer.ending.abort(new Error("gave up"));
              if (kind === "idle") transfer.idle = true;
              if (kind === "busy") transfer.idle = false;
              if (kind === "want") transfer.wants = true;
              if (kind === "rest") transfer.wants = false;
              const before = transfer.steps;
              if (kind === "settle") transfer.share?.settle(amount % 4);
              // What is in use stays.
              if (kind === "settle" && before > 0) {
                expect(transfer.steps).toBeGreaterThanOrEqual(Math.max(1, before - (amount % 4)));
              }
              if (transfer.steps > 0) transfer.share?.ask();
            }
            await turn();
            check();
          }
          while (transfers.some(({ share, error }) => (share ? share.steps > 0 : !error))) {
            for (const { share } of transfers) share?.close();
            await turn();
            check();
          }
          expect([whole.reservedBytes, whole.transfers, whole.waiting]).toEqual([0, 0, 0]);
          expect([part.reservedBytes, part.transfers, part.waiting]).toEqual([0, 0, 0]);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("grows to the whole of its part, and leaves the rest to others", async () => {
    const whole = new MemoryBudget(1000);
    const part = new MemoryBudget(100, whole);
    const one = await new Transfer(10, 50).open(part);
    one.share?.ask();
    expect(one.steps).toBe(9);
    expect(one.told).toHaveLength(8);
    expect(whole.reservedBytes).toBe(100);
    // Who comes next gets its least when the one that has more is done with some of it.
    const opening = new Transfer(10, 50).open(part);
    for (let i = 0; i < 3; i++) one.share?.settle(1);
    const two = await opening;
    expect([one.steps, two.steps]).toEqual([7, 1]);
    expect(whole.reservedBytes).toBe(100);
    const beside = await new Transfer(10, 50).open(whole);
    beside.share?.ask();
    expect(beside.steps).toBe(50);
    one.share?.close();
    two.share?.ask();
    expect([two.steps, part.reservedBytes]).toEqual([9, 100]);
  });
});
