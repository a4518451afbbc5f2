import { describe, expect, it } from "vitest";
import {
  DEFAULT_LIMITS,
  defaultCodecs,
  type Manifest,
  type ManifestTensor,
  planManifest,
} from "../src/index.js";
import { bare, bytesOf, errorOf, type Json, parse } from "./manifest-fixture.js";
import { sample } from "./manifest-samples.js";

/** Variants that contradict themselves, each with a part of the message. */
const INVALID: readonly [string, (json: Json) => void, string, string?][] = [
  ["a name that stands twice", (m) => (m.tensors[3][0] = "scale"), "stands twice", "scale"],
  ["the name __metadata__", (m) => (m.tensors[1][0] = "__metadata__"), "reserved", "__metadata__"],
  ["a name with half a surrogate pair", (m) => (m.tensors[1][0] = "a\ud800"), "surrogate"],
  ["a name with surrogates in the wrong order", (m) => (m.tensors[1][0] = "\udc00\ud800"), "surrogate"],
  ["an unknown dtype", (m) => (m.tensors[1][1] = "F8"), 'unknown dtype "F8"', "scale"],
  ["a dtype of Object's", (m) => (m.tensors[1][1] = "toString"), "unknown dtype", "scale"],
  ["a dimension below 0", (m) => (m.tensors[0][2] = [-1]), "count", "embed.weight"],
  ["a dimension with a fraction", (m) => (m.tensors[0][2] = [1.5]), "expected", "embed.weight"],
  ["a dimension past 2^53", (m) => (m.tensors[0][2] = [2 ** 53]), "count below 2^53", "embed.weight"],
  [
    "a shape whose product overflows",
    (m) => (m.tensors[0][2] = Array(8).fill(2 ** 20)),
    "2^53",
    "embed.weight",
  ],
  [
    "one that overflows behind a zero",
    (m) => (m.tensors[0][2] = [0, 2 ** 50, 2 ** 50]),
    "2^53",
    "embed.weight",
  ],
  [
    "one that overflows before a zero",
    (m) => (m.tensors[0][2] = [2 ** 50, 2 ** 50, 0]),
    "2^53",
    "embed.weight",
  ],
  ["elements that overflow as bytes", (m) => (m.tensors[0][2] = [2 ** 51]), "2^53 bytes", "embed.weight"],
  ["odd elements of 4 bits", (m) => (m.tensors[2][2] = [7]), "whole bytes", "codes"],
  ["6-bit elements, two too many", (m) => m.tensors[2].splice(1, 2, "F6_E2M3", [6]), "whole bytes", "codes"],
  [
    "odd elements of 4 bits past where their bits are exact",
    (m) => (m.tensors[2][2] = [2 ** 53 - 1]),
    "whole bytes",
    "codes",
  ],
  [
    "6-bit elements past where their bits are exact",
    (m) => m.tensors[2].splice(1, 2, "F6_E3M2", [2 ** 53 - 2]),
    "whole bytes",
    "codes",
  ],
  ["a codec that does not take the dtype", (m) => (m.tensors[2][3] = 0), "does not take F4", "codes"],
  ["a codec that it does not have", (m) => (m.tensors[2][3] = 3), "codec 3", "codes"],
  ["a codec's parameter that there is not", (m) => (m.codecs[0].bits = 3), "bits"],
  [
    "__proto__ as a codec's parameter",
    (m) => (m.codecs[1] = JSON.parse('{"name":"none","__proto__":1}')),
    "__proto__",
  ],
  ["a codec's parameter that is out of range", (m) => (m.codecs[0].block = 63), "block"],
  ["a codec's parameter of another type", (m) => (m.codecs[0].block = "64"), "block"],
  ["a codec's parameter that is no scalar", (m) => (m.codecs[0].block = [64]), "neither a number"],
  ["a codec without a name", (m) => delete m.codecs[0].name, "no name"],
  ["a codec with a long name", (m) => (m.codecs[0].name = "x".repeat(65)), "no name"],
  ["a metadata key that stands twice", (m) => m.metadata.push(["format", "tf"]), "stands twice"],
  ["a metadata value that is no string", (m) => (m.metadata[0][1] = 1), "expected a string"],
  ["a metadata key with half a surrogate pair", (m) => (m.metadata[0][0] = "\udc00"), "surrogate"],
  ["a metadata entry without a value", (m) => m.metadata[0].pop(), "no value"],
  ["a metadata entry of three", (m) => m.metadata[0].push("x"), "more than a key and a value"],
  ["a row of five", (m) => m.tensors[0].push(1), "more than name", "embed.weight"],
  ["a row of three", (m) => m.tensors[0].pop(), "less than name", "embed.weight"],
  ["an empty row", (m) => (m.tensors[0] = []), "less than name"],
  ["another kind", (m) => (m.kind = "tarball"), 'unknown kind "tarball"'],
  ["another integrity", (m) => (m.integrity = "md5"), 'unknown integrity "md5"'],
  ["the usual integrity, which has no spelling", (m) => (m.integrity = "xxh64"), "unknown integrity"],
  ["a member that there is not", (m) => (m.extra = 1), 'unknown member "extra"'],
  [
    "__proto__ as a member",
    (m) => Object.defineProperty(m, "__proto__", { value: {}, enumerable: true }),
    "__proto__",
  ],
  ["chunks that are too small", (m) => (m.chunkBytes = 32767), "chunkBytes"],
  ["chunks of no bytes", (m) => (m.chunkBytes = 0), "chunkBytes"],
  ["chunks below 0", (m) => (m.chunkBytes = -1), "count"],
  ["a header of another format", (m) => (m.header = { format: "gguf", text: "{}" }), "format"],
  ["a header without text", (m) => (m.header = { format: "safetensors" }), "no text"],
  [
    "a header with more than that",
    (m) => (m.header = { format: "safetensors", text: "{}", path: "/" }),
    "path",
  ],
  ["a raw file of many tensors", (m) => (m.kind = "raw"), "raw file"],
  [
    "a raw file of two tensors",
    (m) =>
      Object.assign(m, {
        kind: "raw",
        tensors: [
          ["a", "U8", [3], 1],
          ["b", "U8", [3], 1],
        ],
      }),
    "raw file",
  ],
  ["a raw file of no tensors", (m) => Object.assign(m, { kind: "raw", tensors: [] }), "raw file"],
  [
    "a raw file of another dtype",
    (m) => Object.assign(m, { kind: "raw", tensors: [["a", "I8", [3], 1]] }),
    "raw",
  ],
  [
    "a raw file of two dimensions",
    (m) => Object.assign(m, { kind: "raw", tensors: [["a", "U8", [3, 1], 1]] }),
    "raw",
  ],
  [
    "a raw file of no dimension",
    (m) => Object.assign(m, { kind: "raw", tensors: [["a", "U8", [], 1]] }),
    "raw",
  ],
  [
    "a raw file with a header",
    (m) =>
      Object.assign(m, {
        kind: "raw",
        tensors: [["a", "U8", [3], 1]],
        header: { format: "safetensors", text: "{}" },
      }),
    "a raw file has none",
  ],
];

describe("a manifest that contradicts itself", () => {
  it.each(INVALID)("is refused: %s", (_what, spoil, message, tensor) => {
    const json = bare();
    spoil(json);
    const error = errorOf(() => parse(bytesOf(json), { maxModelBytes: Number.MAX_SAFE_INTEGER }));
    expect(error?.code).toBe("MANIFEST_INVALID");
    expect(error?.message).toContain(message);
    expect(error?.tensor).toBe(tensor);
  });

  it.each(["kind", "chunkBytes", "codecs", "tensors", "metadata"])("is refused without %s", (member) => {
    const json = bare();
    delete json[member];
    expect(errorOf(() => parse(bytesOf(json)))?.message).toContain(`has no ${member}`);
  });

  it("is refused where a member stands twice, of which JSON.parse would keep the last", () => {
    const text = JSON.stringify(bare());
    const twice = Buffer.from(text.replace('"chunkBytes"', '"chunkBytes":1,"chunkBytes"'));
    expect(errorOf(() => parse(twice))?.message).toContain("twice");
  });

  it("is refused where it names a codec that is not known here, even one that no tensor has", () => {
    const json = bare();
    json.codecs.push({ name: "gguf_q4" });
    expect(errorOf(() => parse(bytesOf(json)))?.code).toBe("CODEC_UNSUPPORTED");
  });

  it("is refused where it is no JSON, or not in UTF-8", () => {
    const text = JSON.stringify(bare());
    const cases = ["", " ", "null", "[]", "{", text.slice(0, -1), `${text}{}`, `\ufeff${text}`, "\0"];
    for (const bad of cases) {
      expect(errorOf(() => parse(Buffer.from(bad)))?.code, JSON.stringify(bad.slice(0, 9))).toBe(
        "MANIFEST_INVALID",
      );
    }
    const latin = Buffer.from(JSON.stringify(bare()), "latin1");
    expect(errorOf(() => parse(latin))?.message).toContain("UTF-8");
  });

  it("is refused before it is sent, too", () => {
    const refuse = (change: Partial<Manifest>, message: string) => {
      const manifest = { ...sample(), header: undefined, ...change };
      expect(errorOf(() => planManifest(manifest, DEFAULT_LIMITS, defaultCodecs))?.message).toContain(
        message,
      );
    };
    const [first, ...rest] = sample().tensors as [ManifestTensor, ...ManifestTensor[]];
    refuse({ tensors: [first, first] }, "twice");
    refuse({ tensors: [{ ...first, name: "\ud800" }, ...rest] }, "well-formed");
    refuse({ tensors: [{ ...first, name: "__metadata__" }] }, "reserved");
    refuse({ tensors: [{ ...first, shape: [-1] }] }, "count");
    refuse({ tensors: [{ ...first, shape: new Array<number>(65).fill(1) }] }, "maxRank");
    refuse({ tensors: [{ ...first, name: "n".repeat(4097) }] }, "maxNameBytes");
    refuse({ metadata: new Map([["a", "\ud800"]]) }, "well-formed");
    refuse({ metadata: new Map([["a", 1 as unknown as string]]) }, "strings");
    refuse({ header: { format: "safetensors", text: "{}\ud800" } }, "well-formed");
  });
});
