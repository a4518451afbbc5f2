import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBudget } from "../src/budget/memory-budget.js";
import { steps, Transfer, turn } from "./memory-budget-fixture.js";

describe("a memory budget, whatever its transfers do", () => {
  test("is never exceeded, serves in turn, loses no wake-up, and is whole again at the end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 90, max: 1000 }),
        fc.array(steps, { maxLength: 80 }),
        async (bytes, all) => {
          const budget = new MemoryBudget(bytes);
          const transfers: Transfer[] = [];
          const begun: Transfer[] = [];
          const opening: Promise<unknown>[] = [];
          const check = (): void => {
            const open = transfers.filter(({ share }) => share && share.steps > 0);
            const held = open.reduce((sum, transfer) => sum + transfer.held, 0);
            expect(budget.reservedBytes).toBe(held);
            expect(held).toBeLessThanOrEqual(bytes);
            expect(budget.transfers).toBe(open.length);
            const first = transfers.find(({ share, error }) => !share && !error);
            expect(budget.waiting > 0).toBe(first !== undefined);
            // Whoever is first has no room: nobody waits while there is.
            if (first) expect(held + first.minimum).toBeGreaterThan(bytes);
            // One that uses what it has, and could have more, has no room either.
            const busy = open.filter(
              ({ wants, idle, share, maxSteps }) => wants && !idle && share!.steps < maxSteps,
            );
            const least = Math.max(...busy.map(({ step }) => step));
            if (!first && busy.length) expect(held + least).toBeGreaterThan(bytes);
          };
          for (const { kind, of, amount } of all) {
            const transfer = transfers[of % Math.max(1, transfers.length)];
            if (kind === "open") {
              const next = new Transfer(amount);
              transfers.push(next);
              opening.push(next.open(budget).then((opened) => opened.share && begun.push(opened)));
            } else if (transfer) {
              if (kind === "close") transfer.share?.close();
              if (kind === "abort") transfer.ending.abort(new Error("gave up"));
              if (kind === "idle") transfer.idle = true;
              if (kind === "busy") transfer.idle = false;
              if (kind === "want") transfer.wants = true;
              if (kind === "rest") transfer.wants = false;
              if (kind === "settle") transfer.share?.settle(amount % 4);
              transfer.share?.ask();
            }
            await turn();
            check();
          }
          // First come, first served.
          const order = begun.map((transfer) => transfers.indexOf(transfer));
          expect(order).toEqual(order.toSorted((a, b) => a - b));
          // Whoever waits gets its turn as the others end.
          while (transfers.some(({ share, error }) => (share ? share.steps > 0 : !error))) {
            for (const { share } of transfers) share?.close();
            await turn();
            check();
          }
          await Promise.all(opening);
          expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("comes to equal shares of those that use them, in steps of one, however it began", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 12 }),
        fc.integer({ min: 40, max: 400 }),
        fc.array(fc.nat(1000), { minLength: 20, maxLength: 20 }),
        async (count, bytes, turns) => {
          fc.pre(count * 2 <= bytes);
          const budget = new MemoryBudget(bytes);
          const transfers: Transfer[] = [];
          // The first has all of it before the others come.
          for (let i = 0; i < count; i++) transfers.push(new Transfer(1, 1000));
          const opening = transfers.map((transfer) => transfer.open(budget));
          const first = await opening[0]!;
          for (let round = 0; round < 3 * bytes; round++) {
            const offset = turns[round % turns.length]!;
            for (let i = 0; i < count; i++) transfers[(i + offset) % count]!.share?.settle(1);
            if (round === 0) await turn();
          }
          await Promise.all(opening);
          expect(first.steps).toBeGreaterThan(0);
          const found = transfers.map((transfer) => transfer.steps);
          expect(Math.max(...found) - Math.min(...found)).toBeLessThanOrEqual(1);
          expect(budget.reservedBytes).toBe(bytes);
        },
      ),
      { numRuns: 60 },
    );
  });
});
