import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DTYPE_BITS, type DType } from "../src/dtype.js";
import { parseSafetensorsHeader, safetensorsHeaderLength } from "../src/safetensors/header.js";
import { serializeSafetensorsHeader } from "../src/safetensors/serialize.js";
import { type TensorInfo, tensorBytes } from "../src/tensor.js";

const decoder = new TextDecoder();

function parse(bytes: Uint8Array, dataBytes: number) {
  const fileBytes = bytes.length + dataBytes;
  expect(safetensorsHeaderLength(bytes, fileBytes)).toBe(bytes.length - 8);
  return parseSafetensorsHeader(bytes.subarray(8), fileBytes);
}

const words = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.constantFrom(
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "0",
    "10",
    "2",
    "4294967295",
    "-1",
    "",
    "toJSON",
  ),
);

const infos = fc.uniqueArray(
  fc
    .record({
      name: words.filter((name) => name !== "__metadata__"),
      dtype: fc.constantFrom(...(Object.keys(DTYPE_BITS) as DType[])),
      shape: fc.array(fc.oneof(fc.nat(5), fc.nat(2 ** 12)), { maxLength: 4 }),
    })
    .map(
      ({ name, dtype, shape }): TensorInfo => ({
        name,
        dtype,
        // Sub-byte dtypes must fill whole bytes.
        shape: DTYPE_BITS[dtype] < 8 ? [...shape, 4] : shape,
      }),
    ),
  { selector: ({ name }) => name, maxLength: 20 },
);

const metadata = fc.option(
  fc.uniqueArray(fc.tuple(words, words), { selector: ([key]) => key, maxLength: 6 }),
  { nil: undefined },
);

describe("serializeSafetensorsHeader", () => {
  test("is undone by the parser, for any names, dtypes, shapes and metadata", () => {
    fc.assert(
      fc.property(infos, metadata, (infos, metadata) => {
        const { bytes, offsets, dataBytes } = serializeSafetensorsHeader(infos, metadata);
        expect(bytes.length % 8).toBe(0);
        expect(dataBytes).toBe(infos.reduce((sum, info) => sum + tensorBytes(info), 0));
        const header = parse(bytes, dataBytes);
        expect(header.tensors.map(({ info }) => info)).toEqual(sorted(infos, offsets));
        expect(header.metadata).toEqual(metadata && new Map(metadata));
        expect([...(header.metadata ?? [])]).toEqual(metadata ?? []);
        expect(new TextEncoder().encode(header.text)).toEqual(bytes.slice(8));
        infos.forEach(({ name }, i) => {
          const entry = header.tensors.find(({ info }) => info.name === name)!;
          expect({ begin: entry.begin, end: entry.end }).toEqual(offsets[i]);
        });
      }),
      { numRuns: 300 },
    );
  });

  // An empty tensor is put before a full one that begins where it does.
  function sorted(
    infos: readonly TensorInfo[],
    offsets: readonly { begin: number; end: number }[],
  ): TensorInfo[] {
    return infos
      .map((info, i) => ({ info, ...offsets[i]! }))
      .sort((a, b) => a.begin - b.begin || a.end - b.end)
      .map(({ info }) => info);
  }

  test("writes the reference implementation's spelling", () => {
    const { bytes } = serializeSafetensorsHeader(
      [
        { name: "10", dtype: "F32", shape: [2, 3] },
        { name: "2", dtype: "F4", shape: [2] },
        { name: "é\n", dtype: "F8_E4M3", shape: [] },
      ],
      new Map([["format", "pt"]]),
    );
    expect(decoder.decode(bytes.subarray(8)).trimEnd()).toBe(
      '{"__metadata__":{"format":"pt"},"10":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},' +
        '"2":{"dtype":"F4","shape":[2],"data_offsets":[24,25]},"é\\n":{"dtype":"F8_E4M3","shape":[],"data_offsets":[25,26]}}',
    );
  });

  test("writes an empty model", () => {
    expect([...serializeSafetensorsHeader([]).bytes]).toEqual([
      8, 0, 0, 0, 0, 0, 0, 0, 123, 125, 32, 32, 32, 32, 32, 32,
    ]);
  });

  const f32 = (name: string, shape: number[] = [1]): TensorInfo => ({ name, dtype: "F32", shape });
  test.each<[string, () => unknown, object]>([
    [
      "a name twice",
      () => serializeSafetensorsHeader([f32("a"), f32("a")]),
      { message: 'tensor "a": appears twice', tensor: "a" },
    ],
    [
      "the reserved name",
      () => serializeSafetensorsHeader([f32("__metadata__")]),
      { message: expect.stringContaining("reserved for the metadata") },
    ],
    [
      "half a surrogate pair in a name",
      () => serializeSafetensorsHeader([f32("\ud800")]),
      { message: expect.stringContaining("its name holds half a surrogate pair") },
    ],
    [
      "half a surrogate pair in a metadata key",
      () => serializeSafetensorsHeader([], [["\udc00", ""]]),
      { message: expect.stringContaining("half a surrogate pair") },
    ],
    [
      "half a surrogate pair in metadata",
      () => serializeSafetensorsHeader([], [["k", "x\ud800"]]),
      { message: 'metadata "k" holds half a surrogate pair, which is not Unicode' },
    ],
    [
      "a metadata key twice",
      () =>
        serializeSafetensorsHeader(
          [],
          [
            ["k", ""],
            ["k", ""],
          ],
        ),
      { message: 'metadata has key "k" twice' },
    ],
    [
      "metadata that is no string",
      () => serializeSafetensorsHeader([], [["k", 1 as never]]),
      { message: 'metadata takes strings only, not number under "k"' },
    ],
    [
      "a name that is no string",
      () => serializeSafetensorsHeader([f32(1 as never)]),
      { message: "a tensor's name must be a string, not number" },
    ],
    [
      "an unknown dtype",
      () => serializeSafetensorsHeader([{ ...f32("a"), dtype: "float32" as DType }]),
      { message: 'tensor "a": unknown dtype "float32"' },
    ],
    [
      "a shape of no counts",
      () => serializeSafetensorsHeader([f32("a", [1.5])]),
      { message: expect.stringContaining("not a count"), tensor: "a" },
    ],
    [
      "half a byte",
      () => serializeSafetensorsHeader([{ ...f32("a"), dtype: "F4" }]),
      { message: 'tensor "a": 1 elements of F4 do not fill whole bytes' },
    ],
    [
      "a tensor too large",
      () => serializeSafetensorsHeader([f32("a", [2 ** 52])]),
      { code: "LIMIT_EXCEEDED", tensor: "a" },
    ],
    [
      "a model too large",
      () => serializeSafetensorsHeader([f32("a", [2 ** 50]), f32("b", [2 ** 50]), f32("c", [1])]),
      { code: "LIMIT_EXCEEDED", tensor: "b" },
    ],
    [
      "a header too large",
      () => serializeSafetensorsHeader([], [["k", "x".repeat(1e8)]]),
      { code: "LIMIT_EXCEEDED" },
    ],
  ])("refuses %s", (_, run, expected) => {
    expect(run).toThrow(
      expect.objectContaining({ name: "TensorwireError", code: "INVALID_ARGUMENT", ...expected }),
    );
  });
});
