import { describe, expect, it } from "vitest";
import {
  addResiduals,
  bytesOf,
  codecPlanDigest,
  defaultCodecs,
  type FloatDType,
  type Manifest,
  takeRemainders,
} from "../src/index.js";

const WIDTH = { F16: 2, BF16: 2, F32: 4, F64: 8 };
const none = defaultCodecs.get("none");

function convert(bytes: Uint8Array, from: FloatDType, to: FloatDType): Uint8Array {
  const elements = bytes.length / WIDTH[from];
  const target = new Uint8Array(WIDTH[to] * elements);
  none.decode({ name: "none" }, from, elements, bytes, to, target);
  return target;
}

const floats = (bytes: Uint8Array): number[] => [...new Float32Array(bytes.slice().buffer)];

function correct(dtype: FloatDType, source: Uint8Array, residuals: number[]) {
  const sums = Float32Array.from(residuals);
  const corrected = dtype === "F32" ? bytesOf(sums) : new Uint8Array(source.length);
  const before = source.slice();
  addResiduals(dtype, residuals.length, source, sums, corrected);
  expect(source).toEqual(before);
  return { sums, corrected };
}

describe("addResiduals", () => {
  it.each(["F16", "BF16", "F32", "F64"] as const)("rounds the sum to f32 once, and then to %s", (dtype) => {
    // Over one run of 4096, and no multiple of it.
    const x = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i) * 3);
    const r = Array.from(x, (_, i) => Math.fround(Math.cos(i) / 100));
    const source = convert(bytesOf(x), "F32", dtype);
    const { sums, corrected } = correct(dtype, source, r);
    const held = floats(convert(source, dtype, "F32"));
    const expected = Float32Array.from(held, (value, i) => value + r[i]!);
    expect([...sums]).toEqual([...expected]);
    expect(corrected).toEqual(convert(bytesOf(expected), "F32", dtype));
  });

  it("takes memory of its own for F32, too, and sources at any address", () => {
    const x = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i));
    const shifted = new Uint8Array(4 * 5000 + 1).subarray(1);
    shifted.set(bytesOf(x));
    const sums = new Float32Array(5000).fill(0.5);
    const corrected = new Uint8Array(4 * 5000 + 3).subarray(3);
    addResiduals("F32", 5000, shifted, sums, corrected);
    expect([...sums]).toEqual(Array.from(x, (value) => Math.fround(value + 0.5)));
    expect(floats(corrected)).toEqual([...sums]);
  });

  it("adds to F64 before anything is rounded", () => {
    const source = bytesOf(Float64Array.of(1 + 2 ** -25));
    const { sums } = correct("F64", source, [2 ** -25]);
    expect([...sums]).toEqual([1]);
    expect([...correct("F64", source, [2 ** -25 + 2 ** -30]).sums]).toEqual([1 + 2 ** -23]);
  });

  it("keeps what is not finite, or would not be, bit for bit", () => {
    const signalling = Uint32Array.of(0x7f800123, 0xff800000, 0x7f7fffff, 0x3f800000);
    const { corrected } = correct("F32", bytesOf(signalling), [1, 1, 1e38, 1]);
    expect([...new Uint32Array(corrected.slice().buffer)]).toEqual([
      0x7f800123, 0xff800000, 0x7f7fffff, 0x40000000,
    ]);
    const half = bytesOf(Uint16Array.of(0x7bff, 0x7d01, 0x3c00));
    expect([...new Uint16Array(correct("F16", half, [40, 1, 1]).corrected.slice().buffer)]).toEqual([
      0x7bff, 0x7d01, 0x4000,
    ]);
    const wide = bytesOf(Float64Array.of(1e300, -1e300, 2));
    expect([...new Float64Array(correct("F64", wide, [1, 1, 1]).corrected.slice().buffer)]).toEqual([
      1e300, -1e300, 3,
    ]);
  });
});

describe("takeRemainders", () => {
  it.each(["F16", "BF16", "F32", "F64"] as const)("takes away what %s decodes to", (dtype) => {
    const c = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i) * 3);
    const decoded = convert(bytesOf(c.map((value) => Math.round(value * 4) / 4)), "F32", dtype);
    const held = floats(convert(decoded, dtype, "F32"));
    const left = c.slice();
    takeRemainders(dtype, c.length, decoded, left);
    expect([...left]).toEqual(Array.from(c, (value, i) => Math.fround(value - held[i]!)));
  });

  it("leaves zero where there is no finite remainder", () => {
    const left = Float32Array.of(Number.POSITIVE_INFINITY, Number.NaN, 3e38, 1);
    takeRemainders("F32", 4, bytesOf(Float32Array.of(1, 1, -3e38, 0.25)), left);
    expect([...left]).toEqual([0, 0, 0, 0.75]);
  });
});

describe("codecPlanDigest", () => {
  const manifest: Manifest = {
    kind: "model",
    tensors: [
      {
        name: "w",
        dtype: "F32",
        shape: [8],
        codec: { name: "linear4", block: 256, seed: "0123456789abcdef" },
      },
    ],
    metadata: new Map([["round", "1"]]),
    chunkBytes: 65_536,
  };
  const [w] = manifest.tensors;
  const digest = codecPlanDigest(manifest);

  it("does not know seeds and metadata", () => {
    const seedless = { ...w!, codec: { name: "linear4", block: 256 } };
    expect(codecPlanDigest({ ...manifest, tensors: [seedless], metadata: new Map() })).toBe(digest);
  });

  it.each<[string, Partial<Manifest>]>([
    ["name", { tensors: [{ ...w!, name: "v" }] }],
    ["dtype", { tensors: [{ ...w!, dtype: "BF16" }] }],
    ["shape", { tensors: [{ ...w!, shape: [2, 4] }] }],
    ["codec", { tensors: [{ ...w!, codec: { ...w!.codec, name: "linear5" } }] }],
    ["parameter", { tensors: [{ ...w!, codec: { ...w!.codec, block: 128 } }] }],
    ["chunk size", { chunkBytes: 32_768 }],
  ])("is another with another %s", (_, change) => {
    expect(codecPlanDigest({ ...manifest, ...change })).not.toBe(digest);
  });
});
