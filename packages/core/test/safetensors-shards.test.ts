import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  parseShardIndex,
  planShards,
  serializeShardIndex,
  shardFileName,
} from "../src/safetensors/shards.js";
import { type TensorInfo, tensorBytes } from "../src/tensor.js";
import { faultOf } from "./source-fault.js";

const u8 = (name: string, bytes: number): TensorInfo => ({ name, dtype: "U8", shape: [bytes] });

describe("parseShardIndex", () => {
  test("gives the files sorted, and the map in the order of the index", () => {
    const text = `{"metadata": {"total_size": 12, "total_parameters": 3.0, "x": null},
      "weight_map": {"b": "m-00002-of-00002.safetensors", "10": "m-00001-of-00002.safetensors", "2": "m-00002-of-00002.safetensors", "__proto__": "m-00001-of-00002.safetensors"},
      "later": [{}]}`;
    const index = parseShardIndex(text);
    expect(index.files).toEqual(["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]);
    expect([...index.weightMap]).toEqual([
      ["b", "m-00002-of-00002.safetensors"],
      ["10", "m-00001-of-00002.safetensors"],
      ["2", "m-00002-of-00002.safetensors"],
      ["__proto__", "m-00001-of-00002.safetensors"],
    ]);
    expect(index.metadata).toEqual({ total_size: 12, total_parameters: 3, x: null });
  });

  test("does without metadata", () => {
    expect(parseShardIndex('{"weight_map":{}}')).toEqual({ files: [], weightMap: new Map(), metadata: {} });
  });

  test.each(["a.safetensors", "a", ".a", "a..b", "模型 1.bin", "-", "a'b(1)", "x".repeat(255)])(
    "takes the file name %s",
    (file) => {
      expect(parseShardIndex(`{"weight_map":{"w":${JSON.stringify(file)}}}`).files).toEqual([file]);
    },
  );

  test.each([
    ["", "is empty"],
    [".", "is a step in the folder tree"],
    ["..", "is a step in the folder tree"],
    ["%2e%2E", "is a step in the folder tree"],
    [".%2e", "is a step in the folder tree"],
    ["../a", "holds one of"],
    ["a/b", "holds one of"],
    ["/etc/passwd", "holds one of"],
    ["a\\b", "holds one of"],
    ["C:a", "holds one of"],
    ["a:stream", "holds one of"],
    ["file://a", "holds one of"],
    ["a?b", "holds one of"],
    ["a#b", "holds one of"],
    ["a\0", "holds a control character"],
    ["a\n", "holds a control character"],
    ["a\x7f", "holds a control character"],
    ["a.", "ends in a dot or a space"],
    [".. ", "ends in a dot or a space"],
    ["x".repeat(256), "is longer than 255 bytes"],
    ["é".repeat(128), "is longer than 255 bytes"],
  ])("refuses the file name %j", (file, message) => {
    const fault = faultOf(() => parseShardIndex(`{"weight_map":{"w":${JSON.stringify(file)}}}`));
    expect(fault.message).toMatch(/^tensor "w": file name ".*" in the shard index /);
    expect(fault.message).toContain(message);
    expect(faultOf(() => serializeShardIndex([["w", file]], {}), "INVALID_ARGUMENT").message).toContain(
      message,
    );
  });

  test.each([
    ["no JSON", "", "character 0 of the shard index: expected an object, found the end"],
    ["a list", "[]", "expected an object"],
    ["text after the end", '{"weight_map":{}}x', 'expected the end, found "x"'],
    ["no weight_map", "{}", "shard index: has no weight_map"],
    ["a weight_map that is a list", '{"weight_map":[]}', "expected an object"],
    [
      "a file that is no name",
      '{"weight_map":{"w":1}}',
      'tensor "w": character 19 of the shard index: expected a string',
    ],
    ["a tensor twice", '{"weight_map":{"w":"a","w":"b"}}', 'tensor "w": appears twice in the shard index'],
    ["weight_map twice", '{"weight_map":{},"weight_map":{}}', 'key "weight_map" appears twice'],
    ["a key of metadata twice", '{"metadata":{"a":1,"a":2},"weight_map":{}}', 'key "a" appears twice'],
    ["metadata that is a list", '{"metadata":[],"weight_map":{}}', "its metadata is not an object"],
    ["metadata that is null", '{"metadata":null,"weight_map":{}}', "its metadata is not an object"],
    ["half a surrogate pair", '{"weight_map":{"\\ud800":"a"}}', "half a surrogate pair"],
  ])("refuses %s", (_, text, message) => {
    expect(faultOf(() => parseShardIndex(text)).message).toContain(message);
  });
});

describe("serializeShardIndex", () => {
  test("writes the form that Hugging Face writes", () => {
    const text = serializeShardIndex(
      [
        ["b", "m-00001-of-00002.safetensors"],
        ["10", "m-00002-of-00002.safetensors"],
      ],
      { total_size: 12 },
    );
    expect(text).toBe(`{
  "metadata": {
    "total_size": 12
  },
  "weight_map": {
    "b": "m-00001-of-00002.safetensors",
    "10": "m-00002-of-00002.safetensors"
  }
}
`);
  });

  test("is undone by the parser", () => {
    const names = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("__proto__", "0", "10", "2"));
    const files = fc.constantFrom("a.safetensors", "b.safetensors", "é 模型");
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(names, files), { selector: ([name]) => name }),
        fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 2 })),
        (entries, metadata) => {
          const index = parseShardIndex(serializeShardIndex(entries, metadata));
          expect([...index.weightMap]).toEqual(entries);
          expect(index.metadata).toEqual(JSON.parse(JSON.stringify(metadata)));
          expect(index.files).toEqual([...new Set(entries.map(([, file]) => file))].sort());
        },
      ),
    );
  });

  test.each<[string, [string, string][], string]>([
    [
      "a tensor twice",
      [
        ["a", "f"],
        ["a", "f"],
      ],
      'tensor "a": appears twice',
    ],
    ["half a surrogate pair in a name", [["\ud800", "f"]], "half a surrogate pair"],
    ["half a surrogate pair in a file name", [["a", "\ud800"]], "is not Unicode"],
  ])("refuses %s", (_, entries, message) => {
    expect(faultOf(() => serializeShardIndex(entries, {}), "INVALID_ARGUMENT").message).toContain(message);
  });
});

describe("planShards", () => {
  test.each<[string, number[], number, number[][]]>([
    ["fills a shard to its limit", [4, 6, 1], 10, [[4, 6], [1]]],
    ["begins a new one past it", [4, 7, 3], 10, [[4], [7, 3]]],
    ["gives an oversized tensor its own", [4, 11, 4, 4], 10, [[4], [11], [4, 4]]],
    ["begins with an oversized one", [11, 12, 1], 10, [[11], [12], [1]]],
    ["puts empty tensors where there is room", [10, 0, 0, 1], 10, [[10, 0, 0], [1]]],
    ["puts everything into one", [1, 2, 3], Number.POSITIVE_INFINITY, [[1, 2, 3]]],
    ["has no shard for no tensors", [], 10, []],
  ])("%s", (_, sizes, limit, expected) => {
    const shards = planShards(
      sizes.map((bytes, i) => u8(`t${i}`, bytes)),
      limit,
    );
    expect(shards.map((shard) => shard.map(tensorBytes))).toEqual(expected);
  });

  test("keeps order and limit, and is greedy", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(30)), fc.integer({ min: 1, max: 40 }), (sizes, limit) => {
        const infos = sizes.map((bytes, i) => u8(`t${i}`, bytes));
        const shards = planShards(infos, limit);
        expect(shards.flat()).toEqual(infos);
        const totals = shards.map((shard) => shard.reduce((sum, info) => sum + tensorBytes(info), 0));
        shards.forEach((shard, i) => {
          expect(shard.length).toBeGreaterThan(0);
          if (shard.length > 1) expect(totals[i]).toBeLessThanOrEqual(limit);
          const next = shards[i + 1]?.[0];
          if (next !== undefined) expect(totals[i]! + tensorBytes(next)).toBeGreaterThan(limit);
        });
      }),
    );
  });

  test.each([0, -1, Number.NaN])("refuses a limit of %s", (limit) => {
    expect(faultOf(() => planShards([], limit), "INVALID_ARGUMENT").message).toContain("maxShardBytes");
  });
});

describe("shardFileName", () => {
  test("counts from one in the name, from zero in its argument", () => {
    expect(shardFileName("model", 0, 5)).toBe("model-00001-of-00005.safetensors");
    expect(shardFileName("model.fp16", 4, 5)).toBe("model.fp16-00005-of-00005.safetensors");
    expect(shardFileName("m", 99_999, 100_000)).toBe("m-100000-of-100000.safetensors");
  });

  test.each([
    ["model", 5, 5],
    ["model", -1, 5],
    ["model", 0.5, 5],
    ["model", 0, 0],
    ["../model", 0, 5],
    ["a\\b", 0, 5],
  ])("refuses %s, %s of %s", (stem, index, count) => {
    faultOf(() => shardFileName(stem, index, count), "INVALID_ARGUMENT");
  });
});
