import { TensorwireError } from "@tensorwire/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBudget } from "../src/budget/memory-budget.js";
import type { Hold, ShareOwner } from "../src/budget/share.js";

/** A transfer as the budget sees it: what a step takes, whether it wants more, whether its peer is idle. */
class Transfer implements ShareOwner {
  wants = true;
  idle = false;
  share: Hold | undefined;
  error: unknown;
  readonly ending = new AbortController();
  /** Told of each step, in order, with the number of steps that it has then. */
  readonly told: number[] = [];

  constructor(
    readonly step: number,
    readonly maxSteps = 8,
    readonly minimum = 2 * step,
  ) {}

  bytes(steps: number): number {
    return this.minimum + (steps - 1) * this.step;
  }

  grown(): void {
    this.told.push(this.share?.steps ?? Number.NaN);
  }

  async open(budget: MemoryBudget): Promise<this> {
    try {
      this.share = await budget.open(this, this, this.ending.signal);
    } catch (error) {
      this.error = error;
    }
    return this;
  }

  get held(): number {
    return this.share?.bytes ?? 0;
  }

  get steps(): number {
    return this.share?.steps ?? 0;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Step = { readonly kind: string; readonly of: number; readonly amount: number };
const steps: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("open", "open", "close", "abort", "idle", "busy", "want", "rest", "settle", "settle"),
  of: fc.nat(30),
  amount: fc.integer({ min: 1, max: 40 }),
});

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

describe("a memory budget", () => {
  test("gives a transfer alone all it can use at once, where that is plenty", async () => {
    const budget = new MemoryBudget(1000);
    const one = await new Transfer(10, 8).open(budget);
    // Its peer has used nothing yet.
    expect([one.steps, one.held]).toEqual([8, 90]);
    const two = new Transfer(10, 8);
    two.idle = true;
    expect((await two.open(budget)).steps).toBe(8);
  });

  test("gives what lies idle no more than a quarter of it, and each less than is left of that", async () => {
    const budget = new MemoryBudget(1000);
    const idle = Array.from({ length: 20 }, () => {
      const transfer = new Transfer(10, 50);
      transfer.idle = true;
      return transfer;
    });
    for (const transfer of idle) await transfer.open(budget);
    const found = idle.map(({ held }) => held - 20);
    expect(found.slice(0, 5)).toEqual([120, 60, 30, 20, 10]);
    expect(found.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(250);
    // The rest is there for those that use what they get.
    const busy = await new Transfer(10, 50).open(budget);
    expect(busy.steps).toBeGreaterThan(8);
    expect(budget.reservedBytes).toBeGreaterThan(990);
  });

  test("takes back what lies idle as chunks finish, once little is left, down to the minimum", async () => {
    const budget = new MemoryBudget(1000);
    const once = await new Transfer(10, 90).open(budget);
    expect(once.steps).toBeGreaterThan(80);
    once.idle = true;
    for (let i = 0; i < 100; i++) once.share!.settle(1);
    // What is plenty it may keep.
    expect(once.held - 20).toBe(120);
    const other = new Transfer(10, 90);
    await other.open(budget);
    expect(once.held + other.held).toBeGreaterThan(990);
    for (let i = 0; i < 100; i++) once.share!.settle(1);
    expect([once.steps, other.steps]).toEqual([1, 90]);
  });

  test("takes nothing that is not free to give", async () => {
    const budget = new MemoryBudget(100);
    const one = await new Transfer(10).open(budget);
    const two = new Transfer(10);
    const waiting = two.open(budget);
    expect(one.steps).toBe(8);
    const third = new Transfer(10);
    const last = third.open(budget);
    one.share!.settle(0);
    expect([one.steps, budget.waiting]).toEqual([8, 2]);
    one.share!.settle(1);
    await waiting;
    expect([one.steps, two.steps]).toEqual([7, 1]);
    one.share!.settle(5);
    await last;
    expect(third.steps).toBeGreaterThan(0);
    expect(one.steps).toBeGreaterThan(1);
  });

  test("does not let a small transfer overtake a large one that waits", async () => {
    const budget = new MemoryBudget(100);
    const one = await new Transfer(30, 1).open(budget);
    const large = new Transfer(40, 1);
    const small = new Transfer(5, 1);
    const [a, b] = [large.open(budget), small.open(budget)];
    await turn();
    expect([large.steps, small.steps, budget.reservedBytes]).toEqual([0, 0, 60]);
    one.share!.close();
    await Promise.all([a, b]);
    expect([large.steps, small.steps]).toEqual([1, 1]);
  });

  test("gives a step that came free to whoever has less, and not back to whoever gave it", async () => {
    const budget = new MemoryBudget(100);
    const [one, two] = [new Transfer(10, 20), new Transfer(10, 20)];
    await one.open(budget);
    const opening = two.open(budget);
    one.share!.settle(2);
    await opening;
    expect([one.steps, two.steps]).toEqual([7, 1]);
    one.share!.settle(1);
    expect([one.steps, two.steps]).toEqual([6, 2]);
  });

  test("serves whoever stood behind one that gave up", async () => {
    const budget = new MemoryBudget(100);
    await new Transfer(30, 1).open(budget);
    const [large, small] = [new Transfer(40, 1), new Transfer(5, 1)];
    const opening = [large.open(budget), small.open(budget)];
    large.ending.abort(new Error("gave up"));
    await Promise.all(opening);
    expect([large.steps, small.steps]).toEqual([0, 1]);
  });

  test("tells of steps that come later", async () => {
    const budget = new MemoryBudget(100);
    const [one, two] = [new Transfer(10, 5), new Transfer(10, 5)];
    await one.open(budget);
    await two.open(budget);
    expect([one.steps, two.steps]).toEqual([5, 3]);
    one.share!.close();
    expect(two.told.at(-1)).toBe(5);
  });

  test("lets go of who waits when its signal says so, and of who was served in that moment", async () => {
    const budget = new MemoryBudget(100);
    const one = await new Transfer(45, 1).open(budget);
    const [two, three] = [new Transfer(10, 1), new Transfer(40, 1)];
    const [a, b] = [two.open(budget), three.open(budget)];
    const reason = new TensorwireError("ABORTED", "enough");
    two.ending.abort(reason);
    await a;
    expect([two.error, budget.waiting]).toEqual([reason, 1]);
    one.share!.close();
    three.ending.abort(reason);
    await b;
    expect([three.error, three.share, budget.reservedBytes, budget.transfers]).toEqual([
      reason,
      undefined,
      0,
      0,
    ]);
    const late = new Transfer(1);
    late.ending.abort(reason);
    expect((await late.open(budget)).error).toBe(reason);
  });

  test("refuses a transfer whose minimum it can never give", async () => {
    const budget = new MemoryBudget(100);
    const { error } = await new Transfer(51).open(budget);
    expect(error).toMatchObject({ code: "LIMIT_EXCEEDED", retryable: false });
    expect((error as Error).message).toMatch(/takes 102 bytes .* may take 100/);
  });

  test("is closed once", async () => {
    const budget = new MemoryBudget(100);
    const { share } = await new Transfer(10).open(budget);
    share!.close();
    share!.close();
    share!.settle(3);
    share!.ask();
    expect([budget.reservedBytes, budget.transfers, share!.steps, share!.bytes]).toEqual([0, 0, 0, 0]);
  });

  test("is a positive number of bytes", () => {
    for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new MemoryBudget(bytes)).toThrow(/positive number of bytes/);
    }
  });
});
