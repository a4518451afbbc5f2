import * as fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFloats, firstDifference, firstDifferentElement, shifted } from "../src/testing/index.js";

// Every suite rests on these: what they do not see, no suite does.

test("the first byte that differs is found, wherever it is and wherever the bytes begin", () => {
  const places = fc.record({ length: fc.nat(40), left: fc.nat(5), right: fc.nat(5), at: fc.nat(40) });
  fc.assert(
    fc.property(places, ({ length, left, right, at }) => {
      const bytes = Uint8Array.from({ length }, (_, i) => i * 37);
      const other = shifted(bytes, right);
      if (at < length) other[at]! ^= 0x80;
      expect(firstDifference(shifted(bytes, left), other)).toBe(at < length ? at : -1);
    }),
    { numRuns: 2000 },
  );
});

test("bytes that one has more of differ behind those that both have", () => {
  for (let length = 0; length < 10; length++) {
    const bytes = new Uint8Array(10).fill(7);
    expect(firstDifference(bytes.subarray(0, length), bytes)).toBe(length);
    expect(firstDifference(bytes, bytes.subarray(0, length))).toBe(length);
  }
});

test("any NaN is as good as another, and zeros of two signs are not the same", () => {
  const [quiet, other] = [encodeFloats("F32", Float32Array.of(1, Number.NaN, 2)), new Uint8Array(12)];
  other.set(quiet);
  other[4] = 1;
  expect(firstDifferentElement("F32", quiet, other)).toBe(-1);
  other[8] = 1;
  expect(firstDifferentElement("F32", quiet, other)).toBe(2);
  const zeros = [0, -0].map((zero) => encodeFloats("F32", Float32Array.of(zero)));
  expect(firstDifferentElement("F32", zeros[0]!, zeros[1]!)).toBe(0);
});
