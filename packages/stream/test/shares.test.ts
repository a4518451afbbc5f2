import { ChunkPlan, DEFAULT_LIMITS, maxWantRanges } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { shareOut } from "../src/remote/shares.js";
import { CHUNK, small, WINDOW } from "./remote-source-fixture.js";

describe("shares", () => {
  const plan = new ChunkPlan(
    [
      { name: "a", dtype: "F32", shape: [100_000] },
      ...Array.from({ length: 100 }, (_, i) => ({ name: `b${i}`, dtype: "U8", shape: [i * 100] }) as const),
      { name: "c", dtype: "F32", shape: [50_000] },
    ],
    CHUNK,
  );

  test.each([1, 2, 3, 4, 7, 64])("of %i cover what is wanted, each chunk once, in turn", (count) => {
    const wanted = [
      { first: 2, count: 40 },
      { first: 60, count: plan.chunks - 61 },
    ];
    const shares = shareOut(plan, wanted, count, WINDOW);
    const owners = new Map<number, number>();
    shares.ranges.forEach((ranges, owner) => {
      let last = -1;
      for (const { first, count: length } of ranges) {
        expect(first).toBeGreaterThan(last);
        for (let i = first; i < first + length; i++) {
          expect(owners.has(i)).toBe(false);
          owners.set(i, owner);
        }
        last = first + length - 1;
      }
    });
    const ordinals = [...plan.walk(wanted)].map(({ ordinal }) => ordinal);
    expect([...owners.keys()].sort((a, b) => a - b)).toEqual(ordinals);
    for (const ordinal of ordinals) expect(shares.of(ordinal)).toBe(owners.get(ordinal));
    expect(shares.of(ordinals[0]!)).toBe(0);
    expect(shares.ranges.every(({ length }) => length > 0)).toBe(true);
  });
});

test("what is wanted in more pieces than a request can name is refused", () => {
  const pieces = maxWantRanges(DEFAULT_LIMITS.maxControlBytes) + 1;
  const plan = new ChunkPlan([{ name: "a", dtype: "U8", shape: [2 * pieces * CHUNK] }], CHUNK);
  const wanted = Array.from({ length: pieces }, (_, i) => ({ first: 2 * i, count: 1 }));
  expect(() => shareOut(plan, wanted, 1, small.windowBytes)).toThrow("one request names");
  expect(shareOut(plan, wanted, 2, small.windowBytes).ranges).toHaveLength(2);
});
