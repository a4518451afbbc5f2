import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addElements,
  bytesOf,
  DTYPE_BITS,
  type FloatDType,
  f32ToBf16Bits,
  f32ToF16Bits,
  none,
  subtractElements,
} from "../src/index.js";

const halfOf = { F16: f32ToF16Bits, BF16: f32ToBf16Bits };

/** Values as elements of a dtype, beginning `shift` bytes into their buffer. */
function elementsOf(dtype: FloatDType, values: readonly number[], shift = 0): Uint8Array {
  const bits = (value: number): number => new Int32Array(Float32Array.of(value).buffer)[0]!;
  const array =
    dtype === "F64"
      ? Float64Array.from(values)
      : dtype === "F32"
        ? Float32Array.from(values)
        : Uint16Array.from(values, (value) => halfOf[dtype](bits(value)));
  const bytes = new Uint8Array(array.byteLength + shift);
  bytes.set(bytesOf(array), shift);
  return bytes.subarray(shift);
}

/** Elements as numbers. */
function valuesOf(dtype: FloatDType, bytes: Uint8Array): number[] {
  const elements = (bytes.length * 8) / DTYPE_BITS[dtype];
  if (dtype === "F64") return [...new Float64Array(bytes.slice().buffer)];
  const wide = new Uint8Array(4 * elements);
  none.decode({ name: "none" }, dtype, elements, bytes, "F32", wide);
  return [...new Float32Array(wide.buffer)];
}

describe("elements that are subtracted and added", () => {
  test.each([
    ["F32", 0.1, 0.3],
    ["F64", 0.1, 0.3],
    ["BF16", 1.0078125, 3],
    ["F16", 0.5, 1000],
  ] as const)("are rounded once, in %s", (dtype, x, y) => {
    const count = 5000;
    const [a, b] = [x, y].map((value, i) => elementsOf(dtype, Array(count).fill(value), i * 3));
    const target = { dtype, bytes: new Uint8Array((count * DTYPE_BITS[dtype]) / 8) };
    const [one, other] = [a!, b!].map((bytes) => valuesOf(dtype, bytes)[0]!);
    for (const [operation, result] of [
      [subtractElements, one! - other!],
      [addElements, one! + other!],
    ] as const) {
      operation({ dtype, bytes: a! }, { dtype, bytes: b! }, count, target);
      const [expected] = valuesOf(dtype, elementsOf(dtype, [result]));
      expect(valuesOf(dtype, target.bytes)).toEqual(Array(count).fill(expected));
    }
  });

  test("of 16 bits can be given in 32, and taken in both", () => {
    const [a, b] = [elementsOf("BF16", [1, 256]), elementsOf("BF16", [256, 1])];
    const difference = { dtype: "F32" as const, bytes: new Uint8Array(8) };
    subtractElements({ dtype: "BF16", bytes: a }, { dtype: "BF16", bytes: b }, 2, difference);
    expect(valuesOf("F32", difference.bytes)).toEqual([-255, 255]);
    const sum = { dtype: "BF16" as const, bytes: new Uint8Array(4) };
    addElements({ dtype: "BF16", bytes: b }, difference, 2, sum);
    expect(sum.bytes).toEqual(a);
  });

  test("become infinite beyond a dtype's range, and stay NaN", () => {
    const dtype = "F16";
    const target = { dtype, bytes: new Uint8Array(4) } as const;
    const [a, b] = [elementsOf(dtype, [60_000, Number.NaN]), elementsOf(dtype, [-60_000, 1])];
    subtractElements({ dtype, bytes: a }, { dtype, bytes: b }, 2, target);
    expect(valuesOf(dtype, target.bytes)).toEqual([Number.POSITIVE_INFINITY, Number.NaN]);
  });

  // Sterbenz: what differs by a factor of two at most has an exact difference.
  test("give back the very bits where neither is more than twice the other", () => {
    const near = fc.tuple(
      fc.float({ noNaN: true, noDefaultInfinity: true }),
      fc.float({ min: Math.fround(0.5), max: 2, noNaN: true }),
    );
    fc.assert(
      fc.property(fc.array(near, { minLength: 1 }), (pairs) => {
        for (const dtype of ["F32", "F64"] as const) {
          const ys = pairs.map(([y]) => y);
          const close = pairs.map(([y, factor]) => Math.fround(y * factor));
          const xs = close.map((x, i) =>
            Number.isFinite(x) && Math.abs(x) <= 2 * Math.abs(ys[i]!) && 2 * Math.abs(x) >= Math.abs(ys[i]!)
              ? x
              : ys[i]!,
          );
          expect(returned(dtype, xs, ys)).toEqual(xs.map((x) => (x === 0 ? 0 : x)));
        }
      }),
    );
  });

  // Half a unit in the last place of the difference, and half of one of the result.
  test("give back what is no further off than two roundings", () => {
    const value = fc.float({
      noNaN: true,
      noDefaultInfinity: true,
      min: Math.fround(-1e38),
      max: Math.fround(1e38),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value), { minLength: 1 }), (pairs) => {
        const xs = pairs.map(([x]) => x);
        const ys = pairs.map(([, y]) => y);
        returned("F32", xs, ys).forEach((back, i) => {
          const x = xs[i]!;
          expect(Math.abs(back - x)).toBeLessThanOrEqual(2 ** -24 * (Math.abs(x - ys[i]!) + Math.abs(back)));
        });
      }),
    );
  });

  function returned(dtype: FloatDType, xs: readonly number[], ys: readonly number[]): number[] {
    const [a, b] = [elementsOf(dtype, xs), elementsOf(dtype, ys)];
    const difference = { dtype, bytes: new Uint8Array(a.length) };
    subtractElements({ dtype, bytes: a }, { dtype, bytes: b }, xs.length, difference);
    const back = { dtype, bytes: new Uint8Array(a.length) };
    addElements({ dtype, bytes: b }, difference, xs.length, back);
    return valuesOf(dtype, back.bytes).map((x) => (x === 0 ? 0 : x));
  }
});
