import fc from "fast-check";
import { expect, test } from "vitest";
import { MemoryBudget } from "../src/budget/memory-budget.js";
import type { ReceiverMemory } from "../src/budget/receiver-memory.js";
import { WindowShare } from "../src/budget/window-share.js";
import { CreditGate, CreditLedger } from "../src/session/credit.js";

const STEP = 100;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A receiver with its peer, as far as credit goes: chunks arrive, and are finished with, in order. */
class Transfer {
  readonly gate = new CreditGate();
  readonly ledger: CreditLedger;
  readonly held: number[] = [];
  readonly ending = new AbortController();
  readonly share: WindowShare;
  /** Slabs that its pools may keep. */
  kept = 0;
  opened = false;
  /** Its peer sends nothing for now. */
  stalled = false;

  constructor(
    readonly chunks: number[],
    readonly windowSteps: number,
    budget: MemoryBudget,
  ) {
    this.ledger = new CreditLedger(windowSteps * STEP);
    const memory = {
      stepBytes: STEP,
      maxSteps: windowSteps,
      bytes: (steps: number) => steps * 2 * STEP,
      window: (steps: number) => steps * STEP,
      keep: (steps: number) => {
        this.kept = steps;
      },
    };
    this.share = new WindowShare(memory as unknown as ReceiverMemory, this.ledger, undefined, () =>
      this.moved(),
    );
    void this.share.open(budget, this.ending.signal).then(() => {
      this.opened = true;
      this.ledger.begin({ chunkBytes: STEP, carried: 0, journaled: false, unsafe: 0 });
      this.gate.grant(this.ledger.announce());
    });
  }

  moved(): void {
    if (this.opened && this.share.settle() && this.ledger.due) this.gate.grant(this.ledger.announce());
  }

  send(): boolean {
    const chunk = this.chunks[0];
    if (!this.opened || this.stalled || chunk === undefined || !this.gate.tryTake(chunk)) return false;
    this.ledger.arrive(chunk, true);
    this.share.used();
    this.held.push(this.chunks.shift()!);
    // What is held has its memory.
    expect(this.ledger.held).toBeLessThanOrEqual(this.kept * STEP);
    return true;
  }

  finish(): boolean {
    const chunk = this.held.shift();
    if (chunk === undefined) return false;
    this.ledger.finish(chunk);
    this.moved();
    if (!this.chunks.length && !this.held.length) this.share.close();
    return true;
  }

  get over(): boolean {
    return !this.chunks.length && !this.held.length;
  }

  /** Credit that is granted and not used. */
  get unused(): number {
    return this.ledger.announced - this.ledger.arrived;
  }
}

const sizes = fc.array(fc.integer({ min: 1, max: STEP }), { minLength: 1, maxLength: 60 });

test("no peer stands still while its transfer has memory, whatever others take, and none gets more than it has", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ chunks: sizes, windowSteps: fc.integer({ min: 2, max: 10 }) }), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.integer({ min: 1, max: 30 }),
      fc.infiniteStream(fc.nat(1000)),
      async (all, steps, turns) => {
        const budget = new MemoryBudget(steps * 2 * STEP);
        const transfers = all.map(({ chunks, windowSteps }) => new Transfer(chunks, windowSteps, budget));
        while (transfers.some(({ over }) => !over)) {
          await turn();
          expect(budget.reservedBytes).toBeLessThanOrEqual(budget.bytes);
          // Somebody can go on, and each that has memory can.
          const open = transfers.filter((transfer) => transfer.opened && !transfer.over);
          expect(open.length).toBeGreaterThan(0);
          for (const transfer of open) {
            const [first, second] =
              turns.next().value! % 2 ? (["send", "finish"] as const) : (["finish", "send"] as const);
            if (!transfer.over) expect(transfer[first]() || transfer[second]()).toBe(true);
          }
        }
        expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
      },
    ),
    { numRuns: 200 },
  );
});

test("peers that stop using their credit keep no more than a chunk of it, beside what was plenty", async () => {
  const budget = new MemoryBudget(80 * 2 * STEP);
  const endless = (): number[] => new Array(100_000).fill(STEP);
  const transfers = Array.from({ length: 30 }, () => new Transfer(endless(), 16, budget));
  await turn();
  const run = (rounds: number): void => {
    for (let i = 0; i < rounds; i++) {
      for (const transfer of transfers) {
        transfer.send();
        if (i % 2) transfer.finish();
      }
    }
  };
  run(200);
  for (const transfer of transfers.slice(0, 20)) transfer.stalled = true;
  run(200);
  const idle = transfers.slice(0, 20);
  expect(idle.every(({ held }) => held.length === 0)).toBe(true);
  // One chunk each, and of what is beyond that no more than a quarter of the budget, each less than is left of it.
  const beyond = idle.map(({ unused }) => 2 * Math.max(0, unused - STEP));
  expect(beyond.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(budget.bytes / 4);
  expect(Math.max(...beyond)).toBeLessThanOrEqual(2 * STEP);
  // Those that go on have the rest.
  const busy = transfers.slice(20);
  expect(Math.min(...busy.map(({ kept }) => kept))).toBeGreaterThanOrEqual(4);
  expect(budget.reservedBytes).toBeGreaterThan(budget.bytes - 2 * STEP);
});
