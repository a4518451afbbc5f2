import { describe, expect, it } from "vitest";
import { halvesOf, philox4x32 } from "../src/index.js";

const hex = (words: Uint32Array) => [...words].map((word) => word.toString(16).padStart(8, "0")).join(" ");

describe("philox4x32", () => {
  const ones = 0xffffffff;
  // Random123's kat_vectors, for philox4x32 with 10 rounds.
  it.each([
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[ones, ones, ones, ones], [ones, ones], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
  ] as const)("gives the published words of counter %j", (counter, key, expected) => {
    const words = new Uint32Array(4);
    philox4x32(key, counter, words);
    expect(hex(words)).toBe(expected);
  });

  it("counts on, from the lowest word into the next one", () => {
    const words = new Uint32Array(12);
    philox4x32([1, 2], [ones, 7, 3, 4], words);
    for (const [at, counter] of [
      [0, [ones, 7, 3, 4]],
      [4, [0, 8, 3, 4]],
      [8, [1, 8, 3, 4]],
    ] as const) {
      const single = new Uint32Array(4);
      philox4x32([1, 2], counter, single);
      expect(hex(words.subarray(at, at + 4))).toBe(hex(single));
    }
  });
});

it("halvesOf gives the lower word first", () => {
  expect(halvesOf(0x0123456789abcdefn)).toEqual([0x89abcdef, 0x01234567]);
});
