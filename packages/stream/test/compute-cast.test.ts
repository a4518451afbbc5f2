import type { FloatDType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { cast, receiveModel } from "../src/index.js";
import { artifactOf, base, f32, hasFolder, valuesOf } from "./delta-fixture.js";

hasFolder();

describe("cast", () => {
  test("goes by the first pattern that matches, and leaves the rest and all integers alone", async () => {
    const source = cast(base, { "layer.*": "F64", "*": "BF16" });
    const { tensors } = await source.open();
    expect(tensors.map(({ name, dtype }) => [name, dtype])).toEqual([
      ["w", "BF16"],
      ["layer.b", "F64"],
      ["ids", "I64"],
    ]);
    await source.close();
    const some = cast(base, { "layer.*": "F16" });
    expect((await some.open()).tensors.map(({ dtype }) => dtype)).toEqual(["F32", "F16", "I64"]);
    await some.close();
    const none = cast({}, "F16");
    expect((await none.open()).tensors).toEqual([]);
    await none.close();
  });

  test("to what no float dtype is, or by a pattern that matches nothing, is refused", async () => {
    expect(() => cast(base, "I64" as FloatDType)).toThrow(/F16, BF16, F32 or F64, not "I64"/);
    expect(() => cast(base, { "*": "F8_E4M3" as FloatDType })).toThrow(/not "F8_E4M3"/);
    const source = cast(base, { "*": "F16", nobody: "F32" });
    await expect(source.open()).rejects.toThrow(/"nobody" matches no tensor/);
    await source.close();
  });

  test("is what outputDtype makes at a receiver, infinities included", async () => {
    const x = f32([1e6, -1e6, 65_519, 65_520, 1 + 2 ** -11, 3.1e-8, Number.NaN, -0]);
    for (const dtype of ["F16", "BF16", "F64"] as const) {
      const values = await valuesOf(cast({ x }, dtype));
      const received = new Map<string, Uint8Array>();
      const path = await artifactOf(`${dtype}.twire`, { x }, {});
      for await (const { name, data } of receiveModel(path, { outputDtype: dtype })) received.set(name, data);
      expect(Buffer.compare(values.get("x")!, received.get("x")!)).toBe(0);
    }
  });
});
