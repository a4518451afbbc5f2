import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type DType, type HashedTensor, modelDigestOf, type Sha256 } from "../src/index.js";

const sha256: Sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};
const tensor = (name: string, dtype: DType, shape: number[], bytes = ""): HashedTensor => ({
  name,
  dtype,
  shape,
  sha256: sha256(Buffer.from(bytes)),
});

describe("the digest of a model", () => {
  test("is what its page says", () => {
    const bytes = Buffer.concat([
      Buffer.from("01000000" + "61", "hex"),
      Buffer.from("03000000" + "463332", "hex"),
      Buffer.from("01000000" + "0300000000000000", "hex"),
      sha256(Buffer.from("abcdefghijkl")),
    ]);
    const expected = `sha256:${Buffer.from(sha256(bytes)).toString("hex")}`;
    expect(modelDigestOf([tensor("a", "F32", [3], "abcdefghijkl")], sha256)).toBe(expected);
  });

  test("does not depend on the order, and on everything else", () => {
    const model = [tensor("ü", "F32", [2], "12345678"), tensor("z", "U8", [], "1"), tensor("", "I8", [0])];
    const digest = modelDigestOf(model, sha256);
    expect(modelDigestOf([...model].reverse(), sha256)).toBe(digest);
    for (const other of [
      [...model.slice(1), tensor("ü", "F32", [2], "12345679")],
      [...model.slice(1), tensor("ü", "I32", [2], "12345678")],
      [...model.slice(1), tensor("ü", "F32", [1, 2], "12345678")],
      [...model.slice(1), tensor("u", "F32", [2], "12345678")],
      model.slice(1),
    ]) {
      expect(modelDigestOf(other, sha256)).not.toBe(digest);
    }
  });

  test("sorts by bytes, not by what a language takes for characters", () => {
    // As UTF-16 a surrogate comes before U+FFFD; as UTF-8 behind it.
    const names = ["\u{fffd}", "\u{1f600}", "a"];
    const digests = names.map((_, i) => {
      const turned = [...names.slice(i), ...names.slice(0, i)];
      return modelDigestOf(
        turned.map((name) => tensor(name, "U8", [])),
        sha256,
      );
    });
    expect(new Set(digests).size).toBe(1);
    const parts = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(parts).toEqual(["a", "\u{fffd}", "\u{1f600}"]);
    const entries = parts.map((name) => {
      const key = Buffer.from(name);
      return Buffer.concat([
        Buffer.from([key.length, 0, 0, 0]),
        key,
        Buffer.from("020000005538" + "00000000", "hex"),
        sha256(),
      ]);
    });
    expect(digests[0]).toBe(`sha256:${Buffer.from(sha256(Buffer.concat(entries))).toString("hex")}`);
  });

  test("of two lists that are not the same is not the same", () => {
    const list = fc.uniqueArray(
      fc.record({ name: fc.string({ maxLength: 3 }), shape: fc.array(fc.nat({ max: 3 }), { maxLength: 3 }) }),
      {
        selector: ({ name }) => name,
        maxLength: 4,
      },
    );
    const key = (of: readonly { name: string; shape: number[] }[]) =>
      JSON.stringify(
        [...of].sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, shape }) => [name, shape]),
      );
    fc.assert(
      fc.property(list, list, (a, b) => {
        const [one, other] = [a, b].map((of) =>
          modelDigestOf(
            of.map(({ name, shape }) => tensor(name, "U8", shape)),
            sha256,
          ),
        );
        expect(one === other).toBe(key(a) === key(b));
      }),
    );
  });
});
