import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TensorwireError } from "../src/errors.js";
import { JsonReader } from "../src/json-reader.js";
import { faultOf } from "./source-fault.js";

function read(text: string): unknown {
  const json = new JsonReader(text, "test");
  const value = json.value();
  json.end();
  return value;
}

describe("JsonReader", () => {
  test("reads what JSON.parse reads", () => {
    const spaces = fc.constantFrom(undefined, 1, "\t", " \n\t ");
    fc.assert(
      fc.property(fc.jsonValue(), spaces, (value, space) => {
        const text = JSON.stringify(value, null, space);
        expect(read(` ${text}\r\n`)).toEqual(JSON.parse(text));
      }),
    );
  });

  test("accepts a text if and only if JSON.parse does", () => {
    const seeds = [
      '{"a":[1,-2.5e+3,true,null,"\\u00e9\\n"],"b":{"c":0}}',
      "[[],{},[0,10,-0.5E-7,false]]",
      '"text \\" \\\\ \\/ \\uD83E\\uDD17 é"',
    ];
    const alphabet = '{}[]",: \\0123456789.-+eEutrnl\n\u0001éx'.split("");
    const edit = fc.record({
      at: fc.nat(60),
      remove: fc.nat(2),
      insert: fc.array(fc.constantFrom(...alphabet), { maxLength: 2 }),
    });
    let accepted = 0;
    fc.assert(
      fc.property(fc.constantFrom(...seeds), fc.array(edit, { maxLength: 3 }), (seed, edits) => {
        let text = seed;
        for (const { at, remove, insert } of edits) {
          text = text.slice(0, at) + insert.join("") + text.slice(at + remove);
        }
        let expected: unknown;
        try {
          expected = JSON.parse(text);
        } catch {
          faultOf(() => read(text));
          return;
        }
        try {
          expect(read(text)).toEqual(expected);
          accepted += 1;
        } catch (error) {
          expect((error as Error).message).toMatch(/appears twice|surrogate|finite/);
        }
      }),
      { numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  test("gives keys in the order of the text, whatever they look like", () => {
    const json = new JsonReader('{"b":1,"10":2,"__proto__":3,"2":4,"":5,"\\u0061":6}', "test");
    const seen: [string, number][] = [];
    json.object((key) => seen.push([key, json.count()]));
    expect(seen).toEqual([
      ["b", 1],
      ["10", 2],
      ["__proto__", 3],
      ["2", 4],
      ["", 5],
      ["a", 6],
    ]);
  });

  test("finds a duplicate among few keys and among many, escaped or not", () => {
    expect(faultOf(() => read('{"a":1,"\\u0061":2}')).message).toBe('test: key "a" appears twice');
    for (const count of [2, 7, 8, 9, 100]) {
      const keys = Array.from({ length: count }, (_, i) => `"k${i}":0`);
      expect(read(`{${keys}}`)).toHaveProperty(`k${count - 1}`);
      for (const again of [0, count - 1]) {
        const fault = faultOf(() => read(`{${keys},"k${again}":0}`));
        expect(fault.message).toBe(`test: key "k${again}" appears twice`);
      }
    }
  });

  test.each([
    ["0", 0],
    ["7", 7],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ])("takes %s as a count", (text, value) => {
    const json = new JsonReader(`[${text}]`, "test");
    const counts: number[] = [];
    json.array(() => counts.push(json.count()));
    expect(counts).toEqual([value]);
  });

  test.each([
    "-1",
    "-0",
    "1.0",
    "1.5",
    "1e2",
    "1E2",
    "01",
    "00",
    "9007199254740992",
    "9".repeat(40),
    '"1"',
    "null",
  ])("refuses %s as a count", (text) => {
    const json = new JsonReader(`[${text} ]`, "test");
    const fault = faultOf(() => json.array(() => json.count()));
    expect(fault.message).toContain("character 1 of the test: expected a count below 2^53, found ");
  });

  test("refuses half a surrogate pair, raw or escaped, and takes whole ones", () => {
    expect(read('"\ud83e\udd17 \\ud83e\\udd17"')).toBe("🤗 🤗");
    for (const text of ['"\ud83e"', '"\\udd17"', '"\\ud83e x"', '{"\\ud83e":1}']) {
      expect(faultOf(() => read(text)).message).toContain("half a surrogate pair");
    }
  });

  test("nests up to 256 levels", () => {
    expect(() => read("[".repeat(256) + "]".repeat(256))).not.toThrow();
    expect(faultOf(() => read("[".repeat(257))).message).toBe("test: nested deeper than 256 levels");
    expect(faultOf(() => read('{"a":'.repeat(1_000_000))).message).toBe(
      "test: nested deeper than 256 levels",
    );
  });

  test("stays linear on texts made to be slow", () => {
    const n = 1_000_000;
    for (const text of [
      `"${"\\".repeat(2 * n + 1)}"`,
      `"${'\\"'.repeat(n)}`,
      "1".repeat(n),
      " ".repeat(n),
      "[,".repeat(n),
    ]) {
      faultOf(() => {
        const json = new JsonReader(text, "test");
        json.count();
        json.end();
      });
      try {
        read(text);
      } catch (error) {
        expect(error).toBeInstanceOf(TensorwireError);
      }
    }
  });
});
