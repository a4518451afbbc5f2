import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CreditGate, CreditLedger, CreditNotice } from "../src/session/credit.js";
import { type Deferred, deferred } from "../src/session/deferred.js";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("CreditGate", () => {
  it("lets nothing pass before there is a grant", async () => {
    const gate = new CreditGate();
    expect([gate.allows(0), gate.allows(1), gate.tryTake(1)]).toEqual([true, false, false]);
    let taken = false;
    const take = gate.take(1).then(() => {
      taken = true;
    });
    await turn();
    expect([taken, gate.taken]).toEqual([false, 0]);
    gate.grant(1);
    await take;
    expect(gate.taken).toBe(1);
  });

  it("lets pass exactly what is granted in total, however often it is said", async () => {
    const gate = new CreditGate();
    gate.grant(100);
    gate.grant(100);
    await gate.take(60);
    expect([gate.allows(40), gate.allows(41)]).toEqual([true, false]);
    expect(gate.tryTake(41)).toBe(false);
    expect(gate.tryTake(40)).toBe(true);
    expect([gate.taken, gate.allows(1)]).toEqual([100, false]);
    gate.grant(101);
    expect(gate.tryTake(1)).toBe(true);
  });

  it("wakes a sender only when there is enough", async () => {
    const gate = new CreditGate();
    gate.grant(10);
    let taken = false;
    const take = gate.take(25).then(() => {
      taken = true;
    });
    for (const limit of [20, 24]) {
      gate.grant(limit);
      await turn();
      expect(taken).toBe(false);
    }
    gate.grant(25);
    await take;
    expect(gate.taken).toBe(25);
  });

  it("counts up to 2^53 - 1", async () => {
    const gate = new CreditGate();
    gate.grant(Number.MAX_SAFE_INTEGER);
    await gate.take(Number.MAX_SAFE_INTEGER - 1);
    expect([gate.allows(1), gate.allows(2)]).toEqual([true, false]);
  });

  it("refuses credit that goes back, and keeps what it had", () => {
    const gate = new CreditGate();
    gate.grant(100);
    expect(() => gate.grant(99)).toThrow(expect.objectContaining({ code: "PROTOCOL" }));
    expect(gate.tryTake(100)).toBe(true);
  });

  it("rejects who waits, and who comes later, with the first failure", async () => {
    const gate = new CreditGate();
    gate.grant(5);
    const take = gate.take(6);
    gate.fail(new Error("first"));
    gate.fail(new Error("second"));
    await expect(take).rejects.toThrow("first");
    await expect(gate.take(1)).rejects.toThrow("first");
    expect(gate.tryTake(1)).toBe(false);
    gate.grant(100);
    await expect(gate.take(1)).rejects.toThrow("first");
    expect(gate.taken).toBe(0);
  });
});

describe("CreditLedger", () => {
  it("grants a window to begin with, and then what is finished", () => {
    const ledger = new CreditLedger(80);
    expect([ledger.limit, ledger.announce(), ledger.finished, ledger.held]).toEqual([80, 80, 0, 0]);
    ledger.arrive(30, true);
    ledger.arrive(50, true);
    expect([ledger.limit, ledger.held]).toEqual([80, 80]);
    ledger.finish(30);
    expect([ledger.limit, ledger.announced, ledger.finished, ledger.held]).toEqual([110, 80, 30, 50]);
    ledger.announce();
    ledger.arrive(30, true);
    expect(ledger.held).toBe(80);
  });

  it("refuses a byte more than it granted, and does not count it", () => {
    const ledger = new CreditLedger(80);
    ledger.announce();
    ledger.arrive(80, true);
    const exceeded = expect.objectContaining({
      code: "CREDIT_EXCEEDED",
      message: expect.stringContaining("81"),
    });
    expect(() => ledger.arrive(1, true)).toThrow(exceeded);
    expect(ledger.held).toBe(80);
    // A channel without a way back carries no credit.
    ledger.arrive(1, false);
    expect(ledger.held).toBe(81);
  });

  it("says when to tell the peer: at every eighth of the window", () => {
    const ledger = new CreditLedger(80);
    ledger.announce();
    ledger.arrive(80, true);
    const told = (bytes: number): boolean => {
      ledger.finish(bytes);
      const { due } = ledger;
      if (due) ledger.announce();
      return due;
    };
    expect(Array.from({ length: 8 }, () => told(3))).toEqual([
      false,
      false,
      false,
      true,
      false,
      false,
      false,
      true,
    ]);
    expect(told(50)).toBe(true);
    expect(told(0)).toBe(false);
  });

  it("never lets a sender stand still, nor a receiver hold more than the window", () => {
    // Chunks are at most half a window; the sink finishes in order, whenever it likes.
    fc.assert(
      fc.property(
        fc.integer({ min: 16, max: 1000 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 200 }),
        fc.infiniteStream(fc.boolean()),
        (windowBytes, sizes, turns) => {
          const chunks = sizes.map((part) => Math.max(1, Math.floor((part * windowBytes) / 2)));
          const gate = new CreditGate();
          const ledger = new CreditLedger(windowBytes);
          gate.grant(ledger.announce());
          const held: number[] = [];
          const send = (): boolean => {
            const chunk = chunks[0];
            if (chunk === undefined || !gate.tryTake(chunk)) return false;
            ledger.arrive(chunk, true);
            held.push(chunks.shift()!);
            return true;
          };
          const finish = (): boolean => {
            const chunk = held.shift();
            if (chunk === undefined) return false;
            ledger.finish(chunk);
            if (ledger.due) gate.grant(ledger.announce());
            return true;
          };
          const total = chunks.reduce((sum, bytes) => sum + bytes, 0);
          while (chunks.length || held.length) {
            const [first, second] = turns.next().value ? [send, finish] : [finish, send];
            expect(first() || second(), "one of the two can go on").toBe(true);
            expect(ledger.held).toBeLessThanOrEqual(windowBytes);
          }
          expect([gate.taken, ledger.finished]).toEqual([total, total]);
        },
      ),
    );
  });
});

describe("CreditLedger, of a sink that makes checkpoints", () => {
  const journaled = (carried = 0, unsafe = 0): CreditLedger => {
    const ledger = new CreditLedger(80);
    ledger.begin({ chunkBytes: 10, carried, journaled: true, unsafe });
    ledger.announce();
    return ledger;
  };

  it("lets credit run less than a window ahead of the last one, and no further", () => {
    const ledger = journaled();
    for (let sent = 0; sent < 120; sent += 40) {
      ledger.arrive(40, true);
      ledger.finish(40);
      ledger.announce();
    }
    expect([ledger.finished, ledger.limit]).toEqual([120, 159]);
    expect(() => ledger.arrive(40, true)).toThrow(expect.objectContaining({ code: "CREDIT_EXCEEDED" }));
    expect(ledger.due).toBe(false);
    ledger.secure(100, 100);
    expect([ledger.durable, ledger.limit, ledger.due]).toEqual([100, 200, true]);
  });

  it("counts what an earlier connection left, in the sink's hands and in no checkpoint", () => {
    const ledger = journaled(30, 70);
    expect([ledger.limit, ledger.held]).toEqual([50, 30]);
    ledger.finishCarried(30);
    // 100 bytes are in no checkpoint: 21 more than there may be.
    expect([ledger.limit, ledger.held, ledger.finished]).toEqual([59, 0, 0]);
    ledger.secure(70, 0);
    expect([ledger.limit, ledger.durable]).toEqual([80, 0]);
  });

  it("never takes credit back, and never lets more than two windows be lost", () => {
    const steps = fc.array(fc.constantFrom("send", "finish", "checkpoint", "carried"), { maxLength: 300 });
    fc.assert(
      fc.property(steps, fc.nat(2), fc.nat(79), (moves, carriedChunks, unsafe) => {
        let carried = carriedChunks * 10;
        const ledger = journaled(carried, unsafe);
        let [sent, finished, open] = [0, 0, unsafe];
        let ours = 0;
        let limit = ledger.limit;
        for (const move of moves) {
          if (move === "send" && sent + 10 <= ledger.announced) {
            ledger.arrive(10, true);
            sent += 10;
          } else if (move === "finish" && finished < sent) {
            ledger.finish(10);
            finished += 10;
            [open, ours] = [open + 10, ours + 10];
          } else if (move === "carried" && carried > 0) {
            ledger.finishCarried(10);
            carried -= 10;
            open += 10;
          } else if (move === "checkpoint") {
            ledger.secure(open, ours);
            [open, ours] = [0, 0];
          }
          expect(ledger.limit).toBeGreaterThanOrEqual(limit);
          limit = ledger.announce();
          expect(ledger.held).toBeLessThanOrEqual(80);
          expect(sent - ledger.durable).toBeLessThan(160);
        }
      }),
    );
  });
});

describe("CreditNotice", () => {
  /** A notice whose sends end when they are told to. */
  function slow(): { notice: CreditNotice; sends: Deferred<void>[] } {
    const sends: Deferred<void>[] = [];
    const notice = new CreditNotice(() => {
      const send = deferred<void>();
      sends.push(send);
      return send.promise;
    });
    return { notice, sends };
  }

  it("has one frame under way, and one more for all that came meanwhile", async () => {
    const { notice, sends } = slow();
    for (let i = 0; i < 100; i++) notice.due();
    await turn();
    expect(sends).toHaveLength(1);
    for (let i = 0; i < 100; i++) notice.due();
    sends[0]!.resolve();
    await turn();
    expect(sends).toHaveLength(2);
    sends[1]!.resolve();
    await turn();
    expect(sends).toHaveLength(2);
    notice.due();
    await turn();
    expect(sends).toHaveLength(3);
  });

  it("always tells the latest total in the end", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 40 }), async (turns) => {
        let granted = 0;
        const told: number[] = [];
        const notice = new CreditNotice(async () => {
          told.push(granted);
          await turn();
        });
        for (const wait of turns) {
          granted++;
          notice.due();
          for (let i = 0; i < wait; i++) await turn();
        }
        await turn();
        await turn();
        expect(told.at(-1) ?? 0).toBe(granted);
        expect(told).toEqual([...new Set(told)].sort((a, b) => a - b));
      }),
      { numRuns: 50 },
    );
  });
});
