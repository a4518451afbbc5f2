import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BufferPool, type Loan, unpooled } from "../src/index.js";

const SLAB = 4096;
const internal = expect.objectContaining({ code: "INTERNAL" });

/** A loan that a test holds, and the byte that it wrote all over it. */
interface Held {
  readonly loan: Loan;
  readonly mark: number;
}

/** Lends and gives back as told: a number below 0 gives back the loan at that place, others lend that many bytes. */
const steps = fc.array(fc.oneof(fc.nat(SLAB), fc.nat(200), fc.integer({ min: -20, max: -1 })), {
  maxLength: 120,
});

describe("BufferPool", () => {
  it("never lends the same memory twice, and leaves it alone while it is lent", () => {
    fc.assert(
      fc.property(steps, (todo) => {
        const pool = new BufferPool(SLAB);
        const held: Held[] = [];
        const giveBack = (at: number): void => {
          const [{ loan, mark }] = held.splice(at, 1) as [Held];
          expect(loan.bytes.every((byte) => byte === mark)).toBe(true);
          loan.release();
        };
        todo.forEach((step, i) => {
          if (step >= 0) {
            const mark = i % 256;
            const loan = pool.lend(step);
            expect(loan.bytes.length).toBe(step);
            loan.bytes.fill(mark);
            held.push({ loan, mark });
          } else if (held.length) giveBack(-step % held.length);
          const lent = held.reduce((sum, { loan }) => sum + loan.bytes.length, 0);
          expect([pool.loans, pool.lentBytes]).toEqual([held.length, lent]);
          expect(pool.heldBytes).toBeGreaterThanOrEqual(lent);
        });
        while (held.length) giveBack(0);
        expect([pool.loans, pool.lentBytes]).toEqual([0, 0]);
      }),
      { numRuns: 200 },
    );
  });

  it("begins every loan on a boundary of 64 bytes, counted from where its owner says", () => {
    for (const origin of [0, 16, 48]) {
      const pool = new BufferPool(1000, () => origin);
      for (const bytes of [1, 63, 64, 65, 0, 500, 1000, 1024]) {
        const { bytes: lent } = pool.lend(bytes);
        expect((lent.byteOffset - origin) % 64, `${bytes} bytes`).toBe(0);
      }
    }
    // glibc's large buffers begin 16 bytes past a page.
    expect((new BufferPool(1000).lend(10).bytes.byteOffset + 16) % 64).toBe(0);
  });

  it("lends any length up to a slab, rounded up to the boundary", () => {
    const pool = new BufferPool(1000);
    expect(pool.slabBytes).toBe(1024);
    expect(pool.lend(1024).bytes.length).toBe(1024);
    expect(pool.lend(0).bytes.length).toBe(0);
    expect(() => pool.lend(1025)).toThrow(internal);
    expect(pool.loans).toBe(2);
  });

  it("refuses to take a loan back twice, and counts it once", () => {
    const pool = new BufferPool(SLAB);
    const first = pool.lend(100);
    const second = pool.lend(100);
    first.release();
    expect(() => first.release()).toThrow(internal);
    expect([pool.loans, pool.lentBytes]).toEqual([1, 100]);
    second.release();
    // The slab is used again: the old loans have no say in it.
    const third = pool.lend(SLAB);
    expect(() => first.release()).toThrow(internal);
    expect(() => second.release()).toThrow(internal);
    expect([pool.loans, pool.lentBytes]).toEqual([1, SLAB]);
    third.release();
    expect(pool.heldBytes).toBe(pool.slabBytes);
  });

  it("shares a slab among small loans, and uses it again when the last of them is back", () => {
    const pool = new BufferPool(SLAB);
    const loans = Array.from({ length: SLAB / 64 }, () => pool.lend(64));
    expect(pool.heldBytes).toBe(SLAB);
    expect(new Set(loans.map(({ bytes }) => bytes.buffer)).size).toBe(1);
    pool.lend(64).release();
    expect(pool.heldBytes).toBe(2 * SLAB);
    for (const loan of loans) loan.release();
    const [again] = Array.from({ length: 2 }, () => pool.lend(SLAB));
    expect(pool.heldBytes).toBe(2 * SLAB);
    expect([again?.bytes.length, pool.loans]).toEqual([SLAB, 2]);
  });

  it("holds a bounded amount for any number of loans that come back in order", () => {
    const window = 8 * SLAB;
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(SLAB), fc.nat(100)), { minLength: 300, maxLength: 600 }),
        (sizes) => {
          const pool = new BufferPool(SLAB);
          const queue: Loan[] = [];
          for (const bytes of sizes) {
            while (pool.lentBytes + bytes > window) queue.shift()!.release();
            queue.push(pool.lend(bytes));
            // Two neighbouring slabs are more than one slab full; the first may be half returned, the last half used.
            // Loans of a few bytes take 64 each.
            const occupied = queue.reduce((sum, loan) => sum + Math.ceil(loan.bytes.length / 64) * 64, 0);
            expect(pool.heldBytes).toBeLessThanOrEqual(2 * Math.max(window, occupied) + 4 * SLAB);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  it("holds one slab for loans that are back before the next", () => {
    const pool = new BufferPool(SLAB);
    for (let i = 0; i < 10_000; i++) pool.lend((i * 37) % SLAB).release();
    expect(pool.heldBytes).toBe(SLAB);
  });
});

describe("a pool that is told how many slabs to keep", () => {
  const counting = () => {
    const discarded: ArrayBuffer[] = [];
    return { discarded, pool: new BufferPool(SLAB, undefined, (buffer) => void discarded.push(buffer)) };
  };

  it("gives back what is free beyond that at once, and what is lent when it is back", () => {
    const { pool, discarded } = counting();
    const loans = Array.from({ length: 5 }, () => pool.lend(SLAB));
    loans[0]!.release();
    loans[1]!.release();
    pool.keep(4);
    expect([discarded.length, pool.heldBytes]).toEqual([1, 4 * SLAB]);
    pool.keep(1);
    expect([discarded.length, pool.heldBytes]).toEqual([2, 3 * SLAB]);
    for (const loan of loans.slice(2)) loan.release();
    expect([discarded.length, pool.heldBytes, pool.loans]).toEqual([4, SLAB, 0]);
    // The last one is used again.
    pool.lend(SLAB).release();
    expect([discarded.length, pool.heldBytes]).toEqual([4, SLAB]);
  });

  it("keeps none of none, and begins anew when it may", () => {
    const { pool, discarded } = counting();
    const small = [pool.lend(64), pool.lend(64)];
    pool.keep(0);
    small[0]!.release();
    expect(discarded.length).toBe(0);
    small[1]!.release();
    expect([discarded.length, pool.heldBytes]).toEqual([1, 0]);
    pool.keep(2);
    const loan = pool.lend(SLAB);
    loan.bytes.fill(1);
    loan.release();
    expect([pool.loans, pool.heldBytes]).toEqual([0, SLAB]);
    pool.keep(0);
    expect([discarded.length, pool.heldBytes]).toEqual([2, 0]);
  });

  it("never lends what it has given back", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("lend", "release", "keep"), fc.nat(SLAB)), { maxLength: 100 }),
        (steps) => {
          const { pool, discarded } = counting();
          const loans: Loan[] = [];
          for (const [step, amount] of steps) {
            if (step === "lend") loans.push(pool.lend(amount));
            if (step === "release") loans.splice(amount % Math.max(1, loans.length), 1)[0]?.release();
            if (step === "keep") pool.keep(amount % 6);
            for (const { bytes } of loans) expect(discarded).not.toContain(bytes.buffer);
          }
          for (const loan of loans) loan.release();
          pool.keep(0);
          expect([pool.loans, pool.heldBytes]).toEqual([0, 0]);
          expect(new Set(discarded).size).toBe(discarded.length);
        },
      ),
    );
  });
});

describe("unpooled", () => {
  it("is a loan of the caller's own bytes", () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const loan = unpooled(bytes);
    expect(loan.bytes).toBe(bytes);
    loan.release();
    expect([...bytes]).toEqual([1, 2, 3]);
  });
});
