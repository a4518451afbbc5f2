import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TensorwireError } from "../src/errors.js";
import type { Limits } from "../src/limits.js";
import {
  parseSafetensorsHeader,
  type SafetensorsHeader,
  safetensorsHeaderLength,
} from "../src/safetensors/header.js";
import { faultOf } from "./source-fault.js";

const encoder = new TextEncoder();

function parse(text: string, dataBytes: number, limits?: Partial<Limits>): SafetensorsHeader {
  const header = encoder.encode(text);
  return parseSafetensorsHeader(header, 8 + header.length + dataBytes, limits);
}

const one = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;

describe("safetensorsHeaderLength", () => {
  const prefix = (length: bigint) => {
    const bytes = new Uint8Array(11);
    new DataView(bytes.buffer).setBigUint64(3, length, true);
    return bytes.subarray(3);
  };

  test("reads a length that fits", () => {
    expect(safetensorsHeaderLength(prefix(0x0102n), 1000)).toBe(0x0102);
    expect(safetensorsHeaderLength(prefix(2n), 10)).toBe(2);
    expect(safetensorsHeaderLength(prefix(100_000_000n), 1e9)).toBe(100_000_000);
  });

  test.each([
    [
      prefix(3n),
      10,
      "the file ends inside its header: the header takes 11 bytes with its length, the file has 10",
    ],
    [prefix(100_000_001n), 1e12, "a header of 100000001 bytes is over the format's 100000000"],
    [prefix(2n ** 64n - 1n), 1e12, "a header of 18446744073709551615 bytes is over"],
    [prefix(2n).subarray(0, 7), 7, "7 bytes are too few for a safetensors file"],
    [prefix(2n), 4, "4 bytes are too few for a safetensors file"],
    [new Uint8Array(0), 0, "0 bytes are too few for a safetensors file"],
  ])("refuses one that does not", (bytes, fileBytes, message) => {
    expect(faultOf(() => safetensorsHeaderLength(bytes, fileBytes)).message).toContain(message);
  });
});

describe("parseSafetensorsHeader", () => {
  test("gives tensors in the order of their data, and everything that stands in the header", () => {
    const text = `{"b":${one("F32", "[2,1]", "[4,12]")},"__metadata__":{"10":"x","2":"y"},"a":${one("U16", "[2]", "[0,4]")}}  `;
    const header = parse(text, 12);
    expect(header).toEqual({
      headerBytes: text.length,
      text,
      metadata: new Map([
        ["10", "x"],
        ["2", "y"],
      ]),
      tensors: [
        { info: { name: "a", dtype: "U16", shape: [2] }, begin: 0, end: 4 },
        { info: { name: "b", dtype: "F32", shape: [2, 1] }, begin: 4, end: 12 },
      ],
      dataBytes: 12,
    });
    expect([...header.metadata!.keys()]).toEqual(["10", "2"]);
  });

  test("orders tensors of no bytes by end, then by their place in the header", () => {
    const empty = one("U8", "[0]", "[1,1]");
    const text = `{"z":${empty},"10":${empty},"full":${one("U8", "[2]", "[1,3]")},"2":${empty},"first":${one("BOOL", "[]", "[0,1]")},"last":${one("C64", "[4,0]", "[3,3]")}}`;
    const names = parse(text, 3).tensors.map(({ info }) => info.name);
    expect(names).toEqual(["first", "z", "10", "2", "full", "last"]);
  });

  test("takes any name but the reserved one as plain", () => {
    const names = ["__proto__", "constructor", "toString", "0", "-1", "", " ", "é", "🤗", '"\\\u0000'];
    const members = names.map((name, i) => `${JSON.stringify(name)}:${one("U8", "[1]", `[${i},${i + 1}]`)}`);
    const { tensors, metadata } = parse(`{${members}}`, names.length);
    expect(tensors.map(({ info }) => info.name)).toEqual(names);
    expect(metadata).toBeUndefined();
  });

  test("takes an empty header, empty metadata, white space, and shapes up to 2^53", () => {
    expect(parse("{}", 0).tensors).toEqual([]);
    expect(parse('{"__metadata__":{}}', 0).metadata).toEqual(new Map());
    expect(
      parse('{ "a" :\n{"data_offsets": [ 0 , 1 ],\t"shape":[ ],"dtype":"I8"} }\r\n ', 1).tensors,
    ).toHaveLength(1);
    const big = 2 ** 52;
    const { tensors } = parseSafetensorsHeader(
      encoder.encode(`{"a":${one("U8", `[${big}]`, `[0,${big}]`)}}`),
      8 + encoder.encode(`{"a":${one("U8", `[${big}]`, `[0,${big}]`)}}`).length + big,
    );
    expect(tensors[0]?.end).toBe(big);
  });

  test("counts bytes, not characters", () => {
    const text = `{"模型":${one("U8", "[1]", "[0,1]")}}`;
    const header = parse(text, 1);
    expect(header.headerBytes).toBe(encoder.encode(text).length);
    expect(encoder.encode(header.text)).toEqual(encoder.encode(text));
  });

  test("names the tensor in the error, apart from its message", () => {
    expect(faultOf(() => parse(`{"a":${one("F32", "[3]", "[0,8]")}}`, 8)).tensor).toBe("a");
    expect(faultOf(() => parse(`{"a":${one("U8", "[1]", "[1,2]")}}`, 2)).tensor).toBe("a");
    expect(faultOf(() => parse('{"__metadata__":{"k":1}}', 0)).tensor).toBeUndefined();
  });

  test.each([
    ["not UTF-8", [0x7b, 0x22, 0xff, 0x22, 0x7d]],
    ["an overlong form", [0x7b, 0xc0, 0xa2, 0x7d]],
    ["an encoded surrogate", [0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d]],
    ["a sequence cut short", [0x7b, 0x22, 0xe6, 0xa8]],
  ])("refuses %s", (_, bytes) => {
    const fault = faultOf(() => parseSafetensorsHeader(Uint8Array.from(bytes), 8 + bytes.length));
    expect(fault.message).toBe("safetensors header: is not UTF-8");
  });

  test("refuses a header that the file cannot hold", () => {
    const fault = faultOf(() => parseSafetensorsHeader(encoder.encode("{}"), 9));
    expect(fault.message).toContain("the file ends inside its header");
    const large = new Uint8Array(100_000_001);
    expect(faultOf(() => parseSafetensorsHeader(large, 1e9)).message).toContain(
      "over the format's 100000000",
    );
  });

  test("keeps to its limits", () => {
    const b = `{"a":${one("U8", "[1,1]", "[0,1]")},"b":${one("U8", "[1]", "[1,2]")}}`;
    expect(parse(b, 2, { maxTensors: 2, maxRank: 2, maxNameBytes: 1 }).tensors).toHaveLength(2);
    expect(faultOf(() => parse(b, 2, { maxTensors: 1 }), "LIMIT_EXCEEDED").message).toContain(
      "maxTensors = 1",
    );
    expect(faultOf(() => parse(b, 2, { maxRank: 1 }), "LIMIT_EXCEEDED").message).toContain('tensor "a" is 2');
    const long = `{"é":${one("U8", "[1]", "[0,1]")}}`;
    expect(faultOf(() => parse(long, 1, { maxNameBytes: 1 }), "LIMIT_EXCEEDED").message).toContain(
      "is 2, over",
    );
    expect(parse(long, 1, { maxNameBytes: 2 }).tensors).toHaveLength(1);
  });

  test("throws nothing but TensorwireError, whatever bytes change", () => {
    const text = `{"__metadata__":{"k":"v"},"a":${one("F32", "[2,1]", "[0,8]")},"é":${one("F4", "[2]", "[8,9]")},"c":${one("U8", "[0]", "[9,9]")}}  `;
    const valid = encoder.encode(text);
    const edit = fc.record({
      at: fc.nat(valid.length - 1),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(...encoder.encode('{}[]",:\\0123456789.eE -'))),
      kind: fc.constantFrom("replace", "insert", "remove"),
    });
    let accepted = 0;
    fc.assert(
      fc.property(
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: -1, max: 1 }),
        (edits, more) => {
          const bytes = [...valid];
          for (const { at, byte, kind } of edits) {
            if (kind === "remove") bytes.splice(at, 1);
            else bytes.splice(at, kind === "replace" ? 1 : 0, byte);
          }
          try {
            const header = Uint8Array.from(bytes);
            const { tensors } = parseSafetensorsHeader(header, 8 + header.length + 9 + more);
            accepted += 1;
            expect(tensors.reduce((sum, { begin, end }) => sum + end - begin, 0)).toBe(9 + more);
          } catch (error) {
            expect(error).toBeInstanceOf(TensorwireError);
            expect((error as TensorwireError).code).toBe("SOURCE_INVALID");
          }
        },
      ),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(5);
  });

  test("reads 100,000 tensors in good time", () => {
    const members = Array.from(
      { length: 100_000 },
      (_, i) => `"model.layers.${i}.weight":${one("BF16", "[2,2]", `[${8 * i},${8 * i + 8}]`)}`,
    );
    // Ten times what it takes on a slow machine; a quadratic step would take minutes.
    const begin = performance.now();
    expect(parse(`{${members.reverse()}}`, 800_000).tensors).toHaveLength(100_000);
    expect(performance.now() - begin).toBeLessThan(10_000);
  });
});
