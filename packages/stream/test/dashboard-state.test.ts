import fc from "fast-check";
import { expect, test } from "vitest";
import type { Sight } from "../src/dashboard/sight.js";
import { NOTHING_TOLD, snapshot, toldBy } from "../src/dashboard/snapshot.js";
import {
  type DashboardEvent,
  type DashboardState,
  INITIAL_STATE,
  MAX_HISTORY,
  MAX_RATES,
  next,
  rateOf,
} from "../src/dashboard/state.js";

const sight = (id: number, sourceBytes = 0, changes: Partial<Sight> = {}): Sight => ({
  id,
  way: "out",
  name: `model-${id}`,
  principal: undefined,
  peer: "192.0.2.7:4711",
  channel: "websocket",
  codecs: ["normfloat4"],
  startedAt: 1000,
  totalBytes: 10_000,
  sourceBytes,
  resumedBytes: 0,
  wireBytes: sourceBytes / 8,
  ...changes,
});

const after = (...events: DashboardEvent[]): DashboardState => events.reduce(next, INITIAL_STATE);
const looked = (at: number, ...sights: Sight[]): DashboardEvent => ({ type: "looked", at, sights });
const memory = { rss: 1, peakRss: 2, window: 3, budgets: [] };

test("a rate is that of the last looks, and of the whole transfer where nobody looked", () => {
  const began: DashboardEvent = { type: "began", sight: sight(1) };
  const once = after(began, looked(3000, sight(1, 4000)));
  expect(rateOf(once.active.get(1)!, 3000)).toBe(2000);
  const twice = next(once, looked(3500, sight(1, 4500)));
  expect(rateOf(twice.active.get(1)!, 3500)).toBe(1000);
  // What was there before was not moved now.
  const resumed = after(
    { type: "began", sight: sight(1) },
    looked(2000, sight(1, 9000, { resumedBytes: 8000 })),
  );
  expect(rateOf(resumed.active.get(1)!, 2000)).toBe(1000);
});

test("rates of all transfers are between two looks, those that ended in between too", () => {
  const state = after(
    { type: "began", sight: sight(1) },
    { type: "began", sight: sight(2, 0, { way: "in" }) },
    looked(1000, sight(1), sight(2, 0, { way: "in" })),
    { type: "ended", sight: sight(1, 10_000), at: 1200 },
    looked(1500, sight(2, 500, { way: "in" })),
  );
  expect(state.rates).toEqual([{ at: 1500, out: 20_000, in: 1000 }]);
  // Nobody looked for a minute: what moved meanwhile is no rate of this moment.
  const later = next(state, looked(61_500, sight(2, 9000, { way: "in" })));
  expect(later.rates).toHaveLength(1);
  expect(next(later, looked(62_000, sight(2, 9100, { way: "in" }))).rates.at(-1)).toEqual({
    at: 62_000,
    out: 0,
    in: 200,
  });
});

test("a page that is opened between two looks makes no rates of its own", () => {
  const chunk = 4 * 2 ** 20;
  const began: DashboardEvent = { type: "began", sight: sight(1, 0, { startedAt: 0 }) };
  const before = after(began, looked(1000, sight(1, chunk)), looked(1500, sight(1, 2 * chunk)));
  // Each finds another chunk on its way, a millisecond after the last.
  const opened = [1, 2, 3].reduce(
    (state, i) => next(state, looked(1500 + i, sight(1, (2 + i) * chunk))),
    before,
  );
  expect(opened.rates).toEqual(before.rates);
  expect(opened.active.get(1)!.sourceBytes).toBe(5 * chunk);
  expect(rateOf(opened.active.get(1)!, 1503)).toBe(2 * chunk);
  // What moved meanwhile is not lost.
  const later = next(opened, looked(2000, sight(1, 6 * chunk)));
  expect(later.rates.at(-1)).toEqual({ at: 2000, out: 8 * chunk, in: 0 });
});

test("an interruption is told until something moves again", () => {
  const state = after(
    { type: "began", sight: sight(1) },
    looked(1000, sight(1, 500)),
    { type: "interrupted", id: 1, code: "CHANNEL_CLOSED" },
    // What had not become durable is taken back.
    looked(1500, sight(1, 300)),
  );
  expect(state.active.get(1)).toMatchObject({ retries: 1, trouble: "CHANNEL_CLOSED" });
  const on = next(state, looked(2000, sight(1, 400)));
  expect(on.active.get(1)).toMatchObject({ retries: 1, trouble: undefined });
  expect(rateOf(on.active.get(1)!, 2000)).toBe(200);
});

test("what a page is told is what it does not know yet", () => {
  const one = after({ type: "began", sight: sight(1) }, { type: "ended", sight: sight(1, 10_000), at: 2000 });
  const first = snapshot(one, { at: 2000, told: NOTHING_TOLD, memory });
  expect(first).toMatchObject({ first: true, done: 1, ended: [{ sequence: 1, seconds: 1 }] });
  const nothing = snapshot(one, { at: 2500, told: toldBy(first), memory });
  expect(nothing).toMatchObject({ first: false, ended: [], rates: [] });
  const two = next(one, { type: "ended", sight: sight(2), at: 3000, code: "ABORTED", message: "why" });
  expect(snapshot(two, { at: 3000, told: toldBy(first), memory }).ended).toMatchObject([
    { sequence: 2, code: "ABORTED", message: "why", name: "model-2" },
  ]);
});

test("whatever happens, the state has a bound, and nothing in it is negative or lost", () => {
  const event = fc.oneof(
    fc.record({ type: fc.constant("began" as const), id: fc.nat(5) }),
    fc.record({ type: fc.constant("ended" as const), id: fc.nat(5), failed: fc.boolean() }),
    fc.record({ type: fc.constant("interrupted" as const), id: fc.nat(5) }),
    fc.record({ type: fc.constant("gone" as const), id: fc.nat(5) }),
    fc.record({ type: fc.constant("looked" as const), bytes: fc.nat(10_000), after: fc.nat(4000) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (happened) => {
      let [at, ends] = [1000, 0];
      let state = INITIAL_STATE;
      for (const what of happened) {
        if (what.type === "began") state = next(state, { type: "began", sight: sight(what.id) });
        else if (what.type === "ended") {
          ends++;
          state = next(state, {
            type: "ended",
            sight: sight(what.id, 5000),
            at,
            ...(what.failed && { code: "ABORTED" }),
          });
        } else if (what.type === "interrupted") state = next(state, { ...what, code: "CHANNEL_CLOSED" });
        else if (what.type === "gone") state = next(state, what);
        else {
          at += what.after;
          const sights = [...state.active.keys()].map((id) => sight(id, what.bytes));
          state = next(state, looked(at, ...sights));
        }
        for (const active of state.active.values()) {
          expect(rateOf(active, at)).toBeGreaterThanOrEqual(0);
          expect(active.recent.length).toBeLessThanOrEqual(10);
        }
        for (const rates of state.rates) expect(Math.min(rates.in, rates.out)).toBeGreaterThanOrEqual(0);
      }
      expect(state.done + state.failed).toBe(ends);
    }),
  );
  let state = INITIAL_STATE;
  for (let i = 1; i <= 5000; i++) {
    state = next(next(state, { type: "began", sight: sight(i) }), looked(1000 + i * 500, sight(i, i)));
    state = next(state, { type: "ended", sight: sight(i, 10_000), at: 1000 + i * 500 });
  }
  expect([state.history.length, state.rates.length, state.active.size]).toEqual([MAX_HISTORY, MAX_RATES, 0]);
  expect(state.history.at(-1)!.sequence).toBe(5000);
  expect(state.done).toBe(5000);
});
