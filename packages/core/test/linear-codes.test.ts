import { describe, expect, it } from "vitest";
import { encodeLinearCodes, linear8, philox4x32, xxh64 } from "../src/index.js";
import { encodeFloats, pseudoRandom } from "../src/testing/index.js";

const scale = 2 ** -10;
const seed = "0123456789abcdef";

/** The q of `linear8`, and those of codes of so many bits. */
function both(values: readonly number[], stochastic: boolean): { linear: number[]; codes: number[] } {
  const source = encodeFloats("F32", Float32Array.from(values));
  const spec = { name: "linear8", scale, ...(stochastic && { rounding: "stochastic" as const, seed }) };
  const payload = new Uint8Array(values.length);
  const at = { tensor: xxh64(new TextEncoder().encode("w")), first: 4096 };
  linear8.encode(spec, "F32", values.length, source, payload, at);
  const codes = new Int32Array(values.length);
  const place = { tensor: "w", first: 4096 };
  const target = new Uint8Array(codes.buffer);
  encodeLinearCodes(
    { scale, bits: 8, ...(stochastic && { seed }) },
    "F32",
    values.length,
    source,
    target,
    place,
  );
  return { linear: [...payload].map((code) => code - 127), codes: [...codes] };
}

describe("codes that can be summed", () => {
  it("are those of linear8 with the same scale", () => {
    const random = pseudoRandom(4);
    const values = Array.from({ length: 5000 }, () => (random() - 0.5) * 260 * scale);
    values.push(...[0, -0, 0.5, 1.5, -0.5, -2.5, 127, 127.5, 1e38, -1e38].map((level) => level * scale));
    for (const stochastic of [false, true]) {
      const { linear, codes } = both(values, stochastic);
      expect(codes).toEqual(linear);
    }
  });

  it("round what lies between a draw and the next float32 as linear8 does", () => {
    const hash = xxh64(new TextEncoder().encode("w"));
    const words = new Uint32Array(4096);
    const counter = [1024, 0, Number(hash & 0xffffffffn), Number(hash >> 32n)] as const;
    philox4x32([0x89abcdef, 0x01234567], counter, words);
    // A quarter of 2^-24 more than a draw, which a sum with a whole number loses: only near zero are floats so close.
    const values = [...words].map(
      (word) => (word >= 0xc0000000 ? ((word >>> 8) + 0.25) * 2 ** -24 - 1 : 0) * scale,
    );
    const { linear, codes } = both(values, true);
    expect(codes).toEqual(linear);
    expect(linear.filter((q) => q === -1).length).toBeGreaterThan(900);
  });
});
