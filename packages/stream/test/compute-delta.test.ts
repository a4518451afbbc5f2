import { join } from "node:path";
import type { DType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  apply,
  BASE_KEY,
  cast,
  delta,
  fromTensors,
  modelDigest,
  type SourceLike,
  type TensorMap,
  tensorsSource,
} from "../src/index.js";
import type { ModelSource } from "../src/source/source.js";
import {
  artifactOf,
  base,
  f32,
  floats,
  hasFolder,
  ids,
  trained,
  valuesOf,
  watched,
} from "./delta-fixture.js";

hasFolder();

describe("a delta", () => {
  test("is the difference of floats, and the model's integers", async () => {
    const values = await valuesOf(delta(trained, base));
    expect(floats(values.get("w")!)).toEqual(base.w.data.map((y, i) => trained.w.data[i]! - y));
    expect(Buffer.compare(values.get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("names its base by the digest of its tensors, and keeps the model's metadata", async () => {
    const source = delta(tensorsSource(trained, { metadata: { num_examples: "12" } }), base);
    const info = await source.open();
    expect(Object.fromEntries(info.metadata)).toEqual({
      num_examples: "12",
      [BASE_KEY]: await modelDigest(base),
    });
    expect(info.header).toBeUndefined();
    await source.close();
  });

  test("applied to its base gives the model back", async () => {
    const values = await valuesOf(apply(base, delta(trained, base)));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
    expect(floats(values.get("layer.b")!)).toEqual(trained["layer.b"].data);
    expect(Buffer.compare(values.get("ids")!, Buffer.from(trained.ids.data.buffer))).toBe(0);
  });

  test("applied is no delta any more, and has the model's metadata", async () => {
    const source = apply(base, delta(tensorsSource(trained, { metadata: { num_examples: "12" } }), base));
    expect(Object.fromEntries((await source.open()).metadata)).toEqual({ num_examples: "12" });
    await source.close();
  });

  test.each(["F16", "BF16"] as const)(
    "of %s in F32 gives back what its own dtype would round away",
    async (dtype) => {
      // No difference spans more bits than binary32 has, and all of them more than 16 bits have.
      const x = f32(Array.from({ length: 20_000 }, (_, i) => 0.5 + Math.sin(i * 0.013) / 8));
      const y = f32(Array.from({ length: 20_000 }, (_, i) => (i % 5) * 40 - 90));
      const model = () => cast({ x }, dtype);
      const other = () => cast({ x: y }, dtype);
      const halves = (values: Map<string, Uint8Array>) => new Uint16Array(values.get("x")!.slice().buffer);
      const exact = halves(await valuesOf(model()));
      const differing = async (source: SourceLike): Promise<number> => {
        const back = halves(await valuesOf(apply(other(), source)));
        return exact.filter((half, i) => half !== back[i]).length;
      };
      const wide = delta(model(), other(), { dtype: "F32" });
      expect((await wide.open()).tensors[0]!.dtype).toBe("F32");
      await wide.close();
      expect(await differing(delta(model(), other(), { dtype: "F32" }))).toBe(0);
      expect(await differing(delta(model(), other()))).toBeGreaterThan(1000);
    },
  );

  test("over F64 is computed in F64", async () => {
    const of = (values: number[]) => ({
      dtype: "F64" as const,
      shape: [values.length],
      data: Float64Array.from(values),
    });
    const values = await valuesOf(delta({ x: of([1, 2 ** -40]) }, { x: of([2 ** -50, 1]) }));
    expect([...new Float64Array(values.get("x")!.slice().buffer)]).toEqual([1 - 2 ** -50, 2 ** -40 - 1]);
  });

  test("of models in another order goes by names", async () => {
    const turned = Object.fromEntries(Object.entries(base).reverse()) as TensorMap;
    const values = await valuesOf(apply(turned, delta(trained, turned)));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
    expect(await modelDigest(turned)).toBe(await modelDigest(base));
  });

  test.each([
    ["a tensor too few", { w: base.w, ids }, /"layer\.b".*no such tensor/],
    [
      "a tensor too many",
      { ...base, more: { ...ids, data: BigInt64Array.of(4n, 5n, 6n) } },
      /"more".*no such tensor/,
    ],
    [
      "another shape",
      { ...base, w: { ...base.w, shape: [5, 10_000] } },
      /"w": F32 \[5, 10000\].*F32 \[50000\]/,
    ],
    [
      "another dtype",
      { ...base, ids: { dtype: "U64" as DType, shape: [3], data: new BigUint64Array(3) } },
      /"ids": U64 \[3\]/,
    ],
  ])("of a base with %s is refused before a chunk is read", async (_, other: TensorMap, message) => {
    for (const make of [
      (model: ModelSource, one: ModelSource) => delta(model, one),
      (model: ModelSource, one: ModelSource) => apply(one, model, { anyBase: true }),
    ]) {
      const [model, one] = [watched(tensorsSource(trained)), watched(tensorsSource(other))];
      const source = make(model.source, one.source);
      await expect(source.open()).rejects.toMatchObject({
        code: "SOURCE_MISMATCH",
        message: expect.stringMatching(message),
      });
      await source.close();
      await source.close();
      for (const { calls } of [model, one]) expect(calls).toMatchObject({ open: 1, close: 1, read: 0 });
    }
  });

  test("refuses raw files, digests that are none, and a base whose digest would be its only reading", async () => {
    const path = await artifactOf("x.bin.twire", join(import.meta.dirname, "compute-delta.test.ts"), {});
    for (const source of [delta(path, base), delta(base, path), cast(path, "F32"), apply(base, path)]) {
      await expect(source.open()).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /no model/ });
      await source.close();
    }
    expect(() => delta(trained, base, { baseDigest: "abc" })).toThrow(/64 hexadecimal/);
    expect(() => apply(base, trained, { baseDigest: `sha256:${"A".repeat(64)}` })).toThrow(/64 hexadecimal/);
    expect(() => delta(trained, base, { dtype: "F16" as "F32" })).toThrow(/dtype is F32/);
    const once = () => fromTensors([{ name: "x", dtype: "F32", shape: [1] }], [{ name: "x", ...f32([1]) }]);
    const refused = delta({ x: f32([3]) }, once());
    await expect(refused.open()).rejects.toThrow(/read only once.*give baseDigest/);
    await refused.close();
    const known = delta({ x: f32([3]) }, once(), { baseDigest: await modelDigest({ x: f32([1]) }) });
    expect(known.oneShot).toBe(true);
    expect(floats((await valuesOf(known)).get("x")!)).toEqual(Float32Array.of(2));
  });
});

describe("another base", () => {
  test("is refused, before a chunk of the delta is read, unless the caller says so", async () => {
    const other = { ...base, ids: { ...ids, data: BigInt64Array.of(0n, 0n, 0n) } };
    const update = watched(delta(trained, base));
    const source = apply(other, update.source);
    await expect(source.open()).rejects.toMatchObject({
      code: "BASE_MISMATCH",
      retryable: false,
      message: expect.stringContaining(await modelDigest(other)),
    });
    await source.close();
    expect(update.calls).toMatchObject({ open: 1, close: 1, read: 0 });
    const values = await valuesOf(apply(other, delta(trained, base), { anyBase: true }));
    expect(floats(values.get("w")!)).toEqual(trained.w.data);
  });

  test("is known by a digest that the caller has, without reading it", async () => {
    const digest = await modelDigest(base);
    const one = watched(tensorsSource(base));
    const source = apply(one.source, delta(trained, base, { baseDigest: digest }), { baseDigest: digest });
    await source.open();
    expect(one.calls.read).toBe(0);
    await source.close();
    const wrong = apply(base, delta(trained, base), { baseDigest: `sha256:${"0".repeat(64)}` });
    await expect(wrong.open()).rejects.toMatchObject({ code: "BASE_MISMATCH" });
    await wrong.close();
  });

  test("a model that is no delta is refused", async () => {
    const source = apply(base, trained);
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_MISMATCH", message: /is no delta/ });
    await source.close();
  });
});
