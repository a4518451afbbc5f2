import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeManifest,
  type Limits,
  type Manifest,
  type ManifestTensor,
  type PlannedManifest,
  parseManifest,
  planManifest,
  TensorwireError,
} from "../src/index.js";
import { headerOf, manifests, sample } from "./manifest-samples.js";

const CODES = ["MANIFEST_INVALID", "LIMIT_EXCEEDED", "CODEC_UNSUPPORTED"];

const parse = (bytes: Uint8Array, limits: Partial<Limits> = {}): PlannedManifest =>
  parseManifest(bytes, { ...DEFAULT_LIMITS, ...limits }, defaultCodecs);

// biome-ignore lint/suspicious/noExplicitAny: these tests put anything anywhere.
type Json = any;

/** The sample as JSON, for tests to spoil. */
const written = (): Json => JSON.parse(new TextDecoder().decode(encodeManifest(sample())));

/** The sample without its header, which would find most faults first. */
function bare(): Json {
  const { header, ...rest } = written();
  return rest;
}

const bytesOf = (json: Json): Uint8Array => Buffer.from(JSON.stringify(json));

/** The error of parsing; anything that is no TensorwireError of the three codes fails the test. */
function errorOf(act: () => unknown): TensorwireError | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof TensorwireError && CODES.includes(error.code)) return error;
    throw error;
  }
}

describe("manifest", () => {
  it("comes back as it was written, whatever it is", () => {
    fc.assert(
      fc.property(manifests, (manifest) => {
        const { manifest: parsed, plan } = parse(encodeManifest(manifest));
        expect(parsed).toEqual(manifest);
        expect([...parsed.metadata]).toEqual([...manifest.metadata]);
        const own = planManifest(manifest, DEFAULT_LIMITS, defaultCodecs);
        expect([plan.chunks, plan.bytes, plan.maxChunkBytes]).toEqual([
          own.chunks,
          own.bytes,
          own.maxChunkBytes,
        ]);
      }),
      { numRuns: 200 },
    );
  });

  it("writes each distinct codec once, and no header where there is none", () => {
    const json = written();
    expect(json.codecs).toEqual([
      { name: "normfloat4", block: 64 },
      { name: "none" },
      { name: "blockwise8", block: 4096 },
    ]);
    expect(json.tensors).toEqual([
      ["embed.weight", "F32", [512, 16], 0],
      ["scale", "BF16", [], 1],
      ["codes", "F4", [0, 8], 1],
      ["norm.weight", "F16", [33], 2],
    ]);
    // Equal specs that are different objects are one codec still.
    const twice: Manifest = {
      ...sample(),
      header: undefined,
      tensors: sample().tensors.map((tensor) => ({ ...tensor, codec: { name: "none" } })),
    };
    const text = new TextDecoder().decode(encodeManifest(twice));
    expect(JSON.parse(text).codecs).toEqual([{ name: "none" }]);
    expect(text).not.toContain("header");
  });

  it("may have its members in any order, with white space between them", () => {
    const reversed = Object.fromEntries(Object.entries(written()).reverse());
    const spaced = Buffer.from(`\n ${JSON.stringify(reversed, null, 2)}\r\n\t`);
    expect(parse(spaced).manifest).toEqual(sample());
  });

  it("of a raw file is one U8 tensor", () => {
    const codec = defaultCodecs.resolve("none");
    const manifest: Manifest = {
      kind: "raw",
      tensors: [{ name: "model.gguf", dtype: "U8", shape: [12345], codec }],
      metadata: new Map(),
      chunkBytes: 1 << 20,
      header: undefined,
    };
    expect(parse(encodeManifest(manifest)).manifest).toEqual(manifest);
  });

  it("has the codecs' defaults filled in", () => {
    const json = bare();
    json.codecs[0] = { name: "normfloat4" };
    expect(parse(bytesOf(json)).manifest.tensors[0]?.codec).toEqual({ name: "normfloat4", block: 64 });
  });
});

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

describe("the source's header", () => {
  const tensors = () => [...sample().tensors];
  const metadata = () => new Map(sample().metadata);
  const withText = (text: string): Json => ({ ...written(), header: { format: "safetensors", text } });
  const good = (): Json => JSON.parse(headerOf(tensors(), metadata()));
  const changed = (change: (header: Json) => void): string => {
    const header = good();
    change(header);
    return JSON.stringify(header);
  };

  it("may order its members as it likes, and be padded", () => {
    const header = good();
    const reversed = JSON.stringify(Object.fromEntries(Object.entries(header).reverse()));
    for (const text of [reversed, `${reversed}    `, JSON.stringify(header, null, 1)]) {
      expect(parse(bytesOf(withText(text))).manifest.header?.text).toBe(text);
    }
  });

  it.each<[string, string, string]>([
    ["orders the data in another way", headerOf(tensors().reverse(), metadata()), "not the manifest's"],
    ["has a tensor less", headerOf(tensors().slice(0, 3), metadata()), "no tensor owns"],
    [
      "has an empty tensor more",
      changed((h) => (h.more = { dtype: "U8", shape: [0], data_offsets: [0, 0] })),
      "not the",
    ],
    [
      "has a tensor more",
      changed((h) => (h.more = { dtype: "U8", shape: [1], data_offsets: [32836, 32837] })),
      "truncated",
    ],
    [
      "has another name",
      changed((h) => delete Object.assign(h, { other: h.scale }).scale),
      "not the manifest's",
    ],
    ["has another dtype", changed((h) => (h.scale.dtype = "F16")), "not the manifest's"],
    ["has another shape", changed((h) => (h.scale.shape = [1])), "not the manifest's"],
    ["has a shape of other bytes", changed((h) => (h.scale.shape = [2])), "takes 4"],
    ["has a hole", changed((h) => (h["norm.weight"].data_offsets = [32771, 32837])), "hole"],
    ["has an overlap", changed((h) => (h["norm.weight"].data_offsets = [32769, 32835])), "overlap"],
    ["begins after the data", changed((h) => (h["embed.weight"].data_offsets = [1, 32769])), "hole"],
    ["has other metadata", changed((h) => (h.__metadata__.format = "tf")), "metadata"],
    ["has more metadata", changed((h) => (h.__metadata__.more = "")), "metadata"],
    ["has less metadata", changed((h) => delete h.__metadata__.format), "metadata"],
    ["has no metadata", changed((h) => delete h.__metadata__), "metadata"],
    ["goes on behind its end", `${headerOf(tensors(), metadata())} {}`, "the end"],
    ["ends before its end", headerOf(tensors(), metadata()).slice(0, -1), "found the end"],
    ["is padded with something else", `${headerOf(tensors(), metadata())}\0`, "the end"],
    ["is no JSON", "{", "expected"],
    ["is empty", "", "empty"],
    ["has a duplicate", headerOf([...tensors(), tensors()[2]!], metadata()), "twice"],
  ])("is refused where it %s", (_what, text, message) => {
    const error = errorOf(() => parse(bytesOf(withText(text))));
    expect(error?.code).toBe("MANIFEST_INVALID");
    expect(error?.message).toMatch(/^the source's header: /);
    expect(error?.message).toContain(message);
  });

  it("is held to the limits that the manifest is held to", () => {
    const codec = defaultCodecs.resolve("none");
    const many: ManifestTensor[] = [
      { name: "n".repeat(5000), dtype: "U8", shape: new Array<number>(70).fill(1), codec },
    ];
    const manifest: Manifest = {
      ...sample(),
      tensors: many,
      header: { format: "safetensors", text: headerOf(many, metadata()) },
    };
    const raised = { maxNameBytes: 5000, maxRank: 70 };
    expect(parse(encodeManifest(manifest), raised).manifest).toEqual(manifest);
  });
});

describe("a manifest over a limit", () => {
  const refused = (limits: Partial<Limits>, json: Json = written()): void => {
    const [limit] = Object.keys(limits) as (keyof Limits)[];
    const error = errorOf(() => parse(bytesOf(json), limits));
    expect(error?.code).toBe("LIMIT_EXCEEDED");
    expect(error?.message).toContain(limit);
    const least = { [limit!]: limits[limit!]! + 1 };
    expect(errorOf(() => parse(bytesOf(json), least))).toBeUndefined();
  };

  it("has too many tensors", () => refused({ maxTensors: 3 }));
  it("has a name that is too long", () => refused({ maxNameBytes: 11 }));
  it("has too many dimensions", () => refused({ maxRank: 1 }));
  it("has too large a chunk", () => refused({ maxChunkBytes: 2 ** 20 - 1 }));
  it("has too many chunks", () => refused({ maxChunks: 2 }));
  it("is too large a model", () => refused({ maxModelBytes: 32768 + 2 + 66 - 1 }));

  it("has a name that is too long in UTF-8, and short in UTF-16", () => {
    const json = bare();
    json.tensors[1][0] = "é".repeat(10);
    refused({ maxNameBytes: 19 }, json);
    json.tensors[1][0] = "\u{1f600}".repeat(10);
    refused({ maxNameBytes: 39 }, json);
  });

  it("has more metadata than there may be tensors", () => {
    const json = bare();
    json.metadata = Array.from({ length: 5 }, (_, i) => [`${i}`, ""]);
    refused({ maxTensors: 4 }, json);
  });

  it("is refused where it goes over, whatever comes after", () => {
    const rows = `["a","F32",[1],0],`.repeat(100_000);
    const text = `{"tensors":[${rows}`;
    expect(errorOf(() => parse(Buffer.from(text), { maxTensors: 10 }))?.message).toContain("maxTensors");
    const rank = `{"tensors":[["a","F32",[${"1,".repeat(100_000)}`;
    expect(errorOf(() => parse(Buffer.from(rank)))?.message).toContain("maxRank");
  });

  it("costs no more memory than its text where it is nonsense", () => {
    const nonsense = Buffer.alloc(24 * 1024 * 1024, "[],");
    const before = process.memoryUsage();
    for (const start of ["", "[", '{"tensors":[', '{"codecs":[', '{"metadata":[', '{"header":[']) {
      nonsense.write(start);
      expect(errorOf(() => parse(nonsense))?.code).toBe("MANIFEST_INVALID");
    }
    // A general parser would build eight million arrays of it.
    expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(200 * 1024 * 1024);
    const deep = Buffer.alloc(1024 * 1024, "[");
    expect(errorOf(() => parse(deep))?.code).toBe("MANIFEST_INVALID");
  });
});

describe("a manifest that anybody may have written", () => {
  /** Every place in a JSON value, as the keys that lead there. */
  function* places(json: Json, path: (string | number)[] = []): Generator<(string | number)[]> {
    yield path;
    if (typeof json !== "object" || json === null) return;
    for (const [key, value] of Object.entries(json)) yield* places(value, [...path, key]);
  }

  const at = (json: Json, path: readonly (string | number)[]): Json =>
    path.reduce((value, key) => value[key], json);

  function replaced(json: Json, path: readonly (string | number)[], value: Json): Json {
    if (path.length === 0) return value;
    at(json, path.slice(0, -1))[path.at(-1)!] = value;
    return json;
  }

  const kindOf = (json: Json): string =>
    json === null ? "null" : Array.isArray(json) ? "array" : typeof json;
  const VALUES: readonly Json[] = [
    null,
    true,
    0,
    -1,
    1.5,
    1e300,
    "",
    "x",
    [],
    [[]],
    {},
    { a: 1 },
    [0, "a", null],
  ];

  it.each([
    ["with a header", written],
    ["without", bare],
  ])("is refused with a wrong type in any place (%s)", (_what, make) => {
    let refused = 0;
    for (const path of places(make())) {
      for (const value of VALUES) {
        if (kindOf(value) === kindOf(at(make(), path))) continue;
        const error = errorOf(() => parse(bytesOf(replaced(make(), path, value))));
        expect(error, `${JSON.stringify(value)} at ${path.join(".")}`).toBeDefined();
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(400);
  });

  it("is refused, or read as what it says, with any value in any place", () => {
    const paths = [...places(written())];
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(fc.tuple(fc.nat(), fc.jsonValue({ maxDepth: 3 })), { minLength: 1, maxLength: 3 }),
        (withHeader, changes) => {
          let json = withHeader ? written() : bare();
          for (const [index, value] of changes) {
            const path = paths[index % paths.length]!;
            try {
              json = replaced(json, path, value);
            } catch {
              // An earlier change took the place away.
            }
          }
          check(bytesOf(json));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("is refused, or read as what it says, with any bytes in any place", () => {
    const bytes = encodeManifest(sample());
    fc.assert(
      fc.property(
        fc.nat(bytes.length),
        fc.nat(4),
        fc.oneof(
          fc.uint8Array({ maxLength: 4 }),
          fc.string({ maxLength: 6 }).map((text) => Buffer.from(text)),
        ),
        (from, removed, added) => {
          check(Buffer.concat([bytes.subarray(0, from), added, bytes.subarray(from + removed)]));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("is refused where it ends anywhere too soon", () => {
    const bytes = encodeManifest(sample());
    for (let end = 0; end < bytes.length; end++) {
      expect(errorOf(() => parse(bytes.subarray(0, end)))?.code).toBe("MANIFEST_INVALID");
    }
  });

  /** Refused with one of the three codes, or a manifest that comes back as it is written again. */
  function check(bytes: Uint8Array): void {
    let parsed: Manifest | undefined;
    const error = errorOf(() => {
      parsed = parse(bytes).manifest;
    });
    if (error) expect(error.message.length).toBeLessThan(2000);
    else expect(parse(encodeManifest(parsed!)).manifest).toEqual(parsed);
  }
});

describe("a manifest of many tensors", () => {
  const many = (tensors: number): Manifest => {
    const codec = defaultCodecs.resolve("normfloat4");
    const infos = Array.from({ length: tensors }, (_, i): ManifestTensor => {
      return { name: `model.layers.${i}.self_attn.q_proj.weight`, dtype: "F32", shape: [16, 16], codec };
    });
    const metadata = new Map([["format", "pt"]]);
    const text = headerOf(infos, metadata);
    return {
      kind: "model",
      tensors: infos,
      metadata,
      chunkBytes: 1 << 22,
      header: { format: "safetensors", text },
    };
  };

  it.each([10_000, 100_000])("is written, read and planned: %i", (tensors) => {
    const manifest = many(tensors);
    for (const variant of [{ ...manifest, header: undefined }, manifest]) {
      const { plan, manifest: parsed } = parse(encodeManifest(variant));
      expect(plan.chunks).toBe(tensors);
      expect(parsed.tensors.at(-1)).toEqual(variant.tensors.at(-1));
    }
  });
});
