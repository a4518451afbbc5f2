import { totalmem } from "node:os";
import { expect, test } from "vitest";
import { processBudget } from "../src/budget/process-budget.js";
import { discardSlab } from "../src/budget/slab-memory.js";

test("the process has a budget for each direction: a quarter of the memory that it may use", () => {
  const [sending, receiving] = [processBudget("send"), processBudget("receive")];
  expect(sending).not.toBe(receiving);
  for (const [budget, direction] of [
    [sending, "send"],
    [receiving, "receive"],
  ] as const) {
    expect(processBudget(direction)).toBe(budget);
    expect(budget.bytes).toBeGreaterThan(2 ** 26);
    expect(budget.bytes).toBeLessThanOrEqual(totalmem() / 4);
  }
});

test("a slab that is discarded is nobody's any more, at once", () => {
  const buffer = new ArrayBuffer(1024 * 1024);
  const view = new Uint8Array(buffer);
  discardSlab(buffer);
  expect([buffer.byteLength, view.length]).toEqual([0, 0]);
});
