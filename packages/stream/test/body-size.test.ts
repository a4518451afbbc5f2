import { expect, test } from "vitest";
import { MAX_BODY_BYTES } from "../src/channel/http-exchange.js";
import { MIN_BODY_BYTES, BodySize } from "../src/channel/body-size.js";

const KiB = 1024;

/** Sends bodies over a line of that rate until their size stays. Milliseconds of the last one, and of the longest. */
function settle(size: BodySize, bytesPerSecond: number, wayMs = 0): { last: number; longest: number } {
  let last = 0;
  let longest = 0;
  for (let i = 0; i < 20; i++) {
    last = (size.bytes / bytesPerSecond) * 1000 + wayMs;
    longest = Math.max(longest, last);
    size.took(size.bytes, last);
  }
  return { last, longest };
}

test("bodies grow to 8 MiB where the line is fast", () => {
  const size = new BodySize();
  settle(size, 1e9);
  expect(size.bytes).toBe(MAX_BODY_BYTES);
});

test.each([10e3, 100e3, 1e6, 10e6])("on a line of %d bytes a second none takes over 20 seconds", (rate) => {
  expect(settle(new BodySize(), rate).longest).toBeLessThan(20_000);
});

test("they shrink when the line gets slow, and grow again", () => {
  const size = new BodySize();
  settle(size, 100e6);
  size.took(size.bytes, 15_000);
  expect(settle(size, 500e3).longest).toBeLessThan(4_000);
  settle(size, 100e6);
  expect(size.bytes).toBe(MAX_BODY_BYTES);
});

test("a long way does not make them ever smaller", () => {
  const size = new BodySize();
  settle(size, 10e6, 3_000);
  expect(size.bytes).toBeGreaterThanOrEqual(64 * KiB);
});

test("what small bodies take says nothing of the line", () => {
  const size = new BodySize();
  settle(size, 1e9);
  for (let i = 0; i < 10; i++) size.took(40, 200);
  expect(size.bytes).toBe(MAX_BODY_BYTES);
});

test("what is refused as too large is halved, and stays so", () => {
  const size = new BodySize();
  settle(size, 1e9);
  expect(size.refused(2048 * KiB)).toBe(true);
  settle(size, 1e9);
  expect(size.bytes).toBe(1024 * KiB);
  while (size.refused(size.bytes));
  expect(size.bytes).toBe(MIN_BODY_BYTES);
});
