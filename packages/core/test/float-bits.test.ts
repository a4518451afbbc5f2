import { describe, expect, it } from "vitest";
import { bf16ToF32Bits, f16ToF32Bits, f32ToBf16Bits, f32ToF16Bits } from "../src/index.js";

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

function value(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

function bits(value: number): number {
  float[0] = value;
  return word[0]!;
}

/** What a 16-bit float of `exponent` and `fraction` bits means, from IEEE 754's definition. */
function meaning(half: number, exponentBits: number, fractionBits: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> fractionBits) & ((1 << exponentBits) - 1);
  const fraction = (half & ((1 << fractionBits) - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 * bias + 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

describe.each([
  { name: "F16", exponent: 5, fraction: 10, widen: f16ToF32Bits, narrow: f32ToF16Bits },
  { name: "BF16", exponent: 8, fraction: 7, widen: bf16ToF32Bits, narrow: f32ToBf16Bits },
])("$name", ({ exponent, fraction, widen, narrow }) => {
  const infinity = ((1 << exponent) - 1) << fraction;
  const quiet = 1 << (fraction - 1);

  it("widens all 65536 patterns to what they mean", () => {
    for (let half = 0; half < 65536; half++) {
      const expected = meaning(half, exponent, fraction);
      const widened = widen(half);
      if (!Object.is(value(widened), expected)) expect.fail(`${half.toString(16)}: ${widened.toString(16)}`);
      if (widened < 0) expect.fail(`${half.toString(16)}: bits are negative`);
    }
  });

  it("narrows what it widened to the same pattern, NaNs quieted", () => {
    for (let half = 0; half < 65536; half++) {
      const nan = (half & 0x7fff) > infinity;
      if (narrow(widen(half)) !== (nan ? half | quiet : half)) expect.fail(half.toString(16));
      // Signed bits, as an Int32Array has them, are the same bits.
      if (narrow(widen(half) | 0) !== narrow(widen(half))) expect.fail(half.toString(16));
    }
  });

  it("rounds to nearest, ties to even, around every halfway point of all patterns", () => {
    for (let half = 0; half < infinity; half++) {
      const low = meaning(half, exponent, fraction);
      // The next value up, or what it would be with an exponent more.
      const high =
        half + 1 === infinity
          ? 2 * low - meaning(half - 1, exponent, fraction)
          : meaning(half + 1, exponent, fraction);
      const middle = bits((low + high) / 2);
      // The least subnormal of bfloat16 halved is still a float32.
      if (value(middle) !== (low + high) / 2) expect.fail(`no halfway point at ${half.toString(16)}`);
      const even = half + (half & 1);
      for (const [from, to] of [
        [middle - 1, half],
        [middle, even],
        [middle + 1, half + 1],
      ] as const) {
        if (narrow(from) !== to) expect.fail(`${from.toString(16)}: ${narrow(from).toString(16)}`);
        if (narrow((from | 0x80000000) >>> 0) !== (to | 0x8000)) expect.fail(`-${from.toString(16)}`);
      }
    }
  });

  it("makes infinities of what is too large, and keeps the top of a NaN's payload", () => {
    expect(narrow(bits(3.4028234663852886e38))).toBe(infinity);
    expect(narrow(bits(Number.NEGATIVE_INFINITY))).toBe(infinity | 0x8000);
    expect(narrow(0x7f800001)).toBe(infinity | quiet);
    expect(narrow(0xffffffff)).toBe(0xffff);
    expect(narrow(0x7fe00000)).toBe(infinity | quiet | (quiet >> 1));
  });
});
