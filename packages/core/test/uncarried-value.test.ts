import { describe, expect, it } from "vitest";
import { byteLength, type DType, defaultCodecs, uncarriedValue } from "../src/index.js";

const bytes = (values: ArrayBufferView): Uint8Array => new Uint8Array(values.buffer as ArrayBuffer);

/** As `dtype`, from float32 values. */
function as(dtype: DType, values: Float32Array): Uint8Array {
  const target = new Uint8Array(byteLength(dtype, values.length));
  defaultCodecs.get("none").decode({ name: "none" }, "F32", values.length, bytes(values), dtype, target);
  return target;
}

describe("uncarriedValue", () => {
  it.each<DType>(["F16", "BF16", "F32", "F64"])(
    "finds the first NaN or infinity of %s, in any run",
    (dtype) => {
      for (const index of [0, 1, 4095, 4096, 9999]) {
        for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
          const values = new Float32Array(10_000).fill(60_000);
          values[index] = value;
          values[9999] = Number.NaN;
          const expected = index === 9999 ? Number.NaN : value;
          expect(uncarriedValue(dtype, 10_000, as(dtype, values))).toEqual({ index, value: expected });
        }
      }
    },
  );

  it("says what lies beyond binary32 as it is", () => {
    const values = Float64Array.of(0, 3.4e38, -1e300, Number.NaN);
    expect(uncarriedValue("F64", 4, bytes(values))).toEqual({ index: 2, value: -1e300 });
  });

  it("names the largest magnitude where all are finite", () => {
    const values = Float32Array.of(1, -3.4e38, 3.4e38, 0);
    expect(uncarriedValue("F32", 4, bytes(values))).toEqual({ index: 1, value: Math.fround(-3.4e38) });
  });

  it("looks at no more than the elements, at any address", () => {
    const shifted = new Uint8Array(13);
    shifted.set(bytes(Float32Array.of(1, 2, Number.NaN)), 1);
    expect(uncarriedValue("F32", 2, shifted.subarray(1))).toEqual({ index: 1, value: 2 });
    expect(uncarriedValue("F32", 0, shifted)).toBeUndefined();
    expect(uncarriedValue("I64", 1, shifted)).toBeUndefined();
  });
});
