import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bytesOf, defaultCodecs, type ErrorFigures, ErrorSums, type FloatDType } from "../src/index.js";

const run = (dtype: FloatDType, view: ArrayBufferView, first = 0) => ({ dtype, bytes: bytesOf(view), first });

function figures(x: readonly number[], y: readonly number[]): ErrorFigures {
  const sums = new ErrorSums();
  sums.add(run("F64", Float64Array.from(x)), run("F64", Float64Array.from(y)), x.length);
  return sums.figures;
}

describe("ErrorSums", () => {
  it("has the figures of the textbook", () => {
    const found = figures([3, 0, 4], [3, 1, 2]);
    expect(found).toMatchObject({ elements: 3, differing: 2, nonFinite: 0, maxAbs: 2, meanAbs: 1 });
    expect(found.relativeL2).toBeCloseTo(Math.sqrt(5) / 5, 15);
    expect(found.cosine).toBeCloseTo(17 / (5 * Math.sqrt(14)), 15);
    expect(found.snrDb).toBeCloseTo(20 * Math.log10(5 / Math.sqrt(5)), 12);
  });

  it("says of what is the same, and of zeros, what a limit would", () => {
    const same = { differing: 0, maxAbs: 0, relativeL2: 0, cosine: 1, snrDb: Number.POSITIVE_INFINITY };
    expect(figures([], [])).toMatchObject({ elements: 0, meanAbs: 0, ...same });
    expect(figures([0, 0], [0, -0])).toMatchObject(same);
    expect(figures([1, -2], [1, -2])).toMatchObject(same);
    const vanished = { relativeL2: 1, cosine: 0, snrDb: -0 };
    expect(figures([1, 2], [0, 0])).toMatchObject(vanished);
    const appeared = { relativeL2: Number.POSITIVE_INFINITY, cosine: 0, snrDb: Number.NEGATIVE_INFINITY };
    expect(figures([0, 0], [0, 1])).toMatchObject(appeared);
  });

  it("leaves out what is not finite, and says how much that was and whether it differs", () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    const found = figures([nan, nan, inf, inf, -inf, 1, 2], [nan, 5, inf, -inf, 0, 1, 2.5]);
    expect(found).toMatchObject({ elements: 7, nonFinite: 5, differing: 4, maxAbs: 0.5, meanAbs: 0.25 });
    expect(Number.isFinite(found.snrDb)).toBe(true);
    // The largest finite values are finite, though their difference is not.
    expect(figures([1.7e308], [-1.7e308])).toMatchObject({ nonFinite: 0, differing: 1 });
  });

  it("reads every float dtype at any place and address, each side in its own", () => {
    const values = Float32Array.from({ length: 10_000 }, (_, i) => Math.fround(Math.sin(i) * 2 ** (i % 9)));
    for (const dtype of ["F16", "BF16", "F32", "F64"] as const) {
      const width = { F16: 2, BF16: 2, F32: 4, F64: 8 }[dtype];
      const shifted = new Uint8Array(width * values.length + 3).subarray(3);
      const none = defaultCodecs.get("none");
      none.decode({ name: "none" }, "F32", values.length, bytesOf(values), dtype, shifted);
      const sums = new ErrorSums();
      sums.add(run("F32", values, 1), run(dtype, shifted, 1), values.length - 1);
      sums.add(run("F32", values, 0), run(dtype, shifted, 0), 1);
      const { elements, differing, relativeL2 } = sums.figures;
      expect(elements).toBe(values.length);
      if (dtype === "F32" || dtype === "F64") expect(differing).toBe(0);
      else {
        expect(differing).toBeGreaterThan(9000);
        expect(relativeL2).toBeLessThan(dtype === "F16" ? 2 ** -11 : 2 ** -8);
        expect(relativeL2).toBeGreaterThan(dtype === "F16" ? 2 ** -14 : 2 ** -11);
      }
    }
  });

  it("adds up the same in pieces, and merged", () => {
    const values = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(values, fc.nat(), (x, cut) => {
        const y = x.map((value, i) => value + (i % 3) / 7);
        const at = cut % x.length;
        const whole = figures(x, y);
        const [head, tail] = [new ErrorSums(), new ErrorSums()];
        const [xs, ys] = [Float64Array.from(x), Float64Array.from(y)];
        head.add(run("F64", xs), run("F64", ys), at);
        tail.add(run("F64", xs, at), run("F64", ys, at), x.length - at);
        head.merge(tail);
        const merged = head.figures;
        expect(merged).toMatchObject({
          elements: whole.elements,
          differing: whole.differing,
          maxAbs: whole.maxAbs,
        });
        expect(Math.abs(merged.meanAbs - whole.meanAbs)).toBeLessThanOrEqual(1e-12 * (1 + whole.meanAbs));
      }),
    );
  });
});
