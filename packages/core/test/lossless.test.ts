import { describe, expect, it } from "vitest";
import { type DType, lossless } from "../src/index.js";
import { adversarial, codecSuite, firstDifference } from "../src/testing/index.js";

const spec = { name: "lossless" };

codecSuite(lossless, { countsNonFinite: false, chunked: "values", errorBound: () => 0 });

describe("lossless", () => {
  it("gathers bytes of equal significance, each plane a segment", () => {
    const source = Uint8Array.of(1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24);
    const payload = new Uint8Array(12);
    lossless.encode(spec, "F32", 3, source, payload);
    expect([...payload]).toEqual([1, 11, 21, 2, 12, 22, 3, 13, 23, 4, 14, 24]);
    expect(lossless.segments!(spec, "F32", 3)).toEqual([3, 3, 3, 3]);
    expect(lossless.segments!(spec, "U8", 5)).toEqual([5]);
    expect(lossless.segments!(spec, "F32", 0)).toEqual([]);
    expect(lossless.packs).toBe(true);
  });

  it("takes every dtype of whole bytes, and converts float dtypes only", () => {
    for (const dtype of ["F4", "F6_E2M3", "F6_E3M2"] as const) expect(lossless.supports(dtype)).toBe(false);
    for (const dtype of ["BOOL", "F8_E4M3", "I64", "C64"] as const)
      expect(lossless.supports(dtype)).toBe(true);
    expect(() => lossless.decode(spec, "I32", 1, new Uint8Array(4), "F32", new Uint8Array(4))).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });

  it.each<DType>(["F16", "BF16", "F32", "F64"])("gives every %s back bit for bit", (dtype) => {
    for (const { elements, bytes } of adversarial(dtype)) {
      const payload = new Uint8Array(bytes.length);
      lossless.encode(spec, dtype, elements, bytes, payload);
      const back = new Uint8Array(bytes.length);
      lossless.decode(spec, dtype, elements, payload, dtype, back);
      expect(firstDifference(back, bytes)).toBe(-1);
    }
  });
});
