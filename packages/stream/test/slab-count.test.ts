import { BufferPool, type Loan } from "@tensorwire/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { SlabCount } from "../src/budget/slab-count.js";

const SLAB = 4096;

const loan = fc.record({
  counted: fc.oneof(fc.constant(SLAB), fc.integer({ min: 1, max: SLAB }), fc.integer({ min: 1, max: 64 })),
  ratio: fc.constantFrom(1, 1, 0.25),
});

test("no window of chunks lies in more slabs than it says, wherever the pool begins, and most need not be many fewer", () => {
  fc.assert(
    fc.property(
      fc.array(loan, { minLength: 1, maxLength: 150 }),
      fc.integer({ min: 1, max: 10 }),
      fc.nat(SLAB),
      (chunks, steps, before) => {
        const loans = chunks.map(({ counted, ratio }) => ({ counted, lent: Math.ceil(counted * ratio) }));
        const most = new SlabCount(loans, loans.length, SLAB).within(steps * SLAB);
        const pool = new BufferPool(SLAB);
        // Something that was there before leaves the pool within a slab.
        pool.lend(before).release();
        const held: { loan: Loan; counted: number }[] = [];
        let bytes = 0;
        for (const { counted, lent } of loans) {
          while (bytes + counted > steps * SLAB) {
            const { loan, counted } = held.shift()!;
            loan.release();
            bytes -= counted;
          }
          held.push({ loan: pool.lend(lent), counted });
          bytes += counted;
        }
        expect(pool.heldBytes / SLAB).toBeLessThanOrEqual(most);
      },
    ),
    { numRuns: 500 },
  );
});

test("full chunks take a slab each, and small ones share", () => {
  const full = Array.from({ length: 100 }, () => ({ counted: SLAB, lent: SLAB }));
  const count = new SlabCount(full, full.length, SLAB);
  expect([0, 1, 4, 8].map((steps) => count.within(steps * SLAB))).toEqual([0, 1, 4, 8]);
  const small = Array.from({ length: 1000 }, () => ({ counted: 64, lent: 64 }));
  const shared = new SlabCount(small, small.length, SLAB);
  expect([SLAB, 4 * SLAB].map((bytes) => shared.within(bytes))).toEqual([3, 6]);
  // A model that is smaller than a window takes what it takes.
  expect(shared.within(1000 * SLAB)).toBe(16);
  const halves = Array.from({ length: 100 }, () => ({ counted: SLAB / 2 + 64, lent: SLAB / 2 + 64 }));
  expect(new SlabCount(halves, halves.length, SLAB).within(8 * SLAB)).toBe(15);
});

test("a plan that is too long to be noted is taken for the worst", () => {
  function* loans() {
    for (let i = 0; i < 2 ** 20 + 1; i++) yield { counted: SLAB, lent: SLAB };
  }
  expect(new SlabCount(loans(), 2 ** 20 + 1, SLAB).within(8 * SLAB)).toBe(18);
});
