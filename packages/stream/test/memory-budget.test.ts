import { TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { MemoryBudget } from "../src/budget/memory-budget.js";
import { Transfer, turn } from "./memory-budget-fixture.js";

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
