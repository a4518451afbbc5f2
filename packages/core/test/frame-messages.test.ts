import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeAck,
  encodeCredit,
  encodeHeld,
  encodeJson,
  encodeTotals,
  encodeWant,
  FaultSchema,
  FrameType,
  type Hello,
  HelloSchema,
  type Integrity,
  maxHeldChunks,
  commonRanges,
  missingRanges,
  parseAck,
  parseCredit,
  parseHeld,
  parseJson,
  parseTotals,
  parseWant,
  SourceStateSchema,
} from "../src/index.js";
import { join } from "./frame-recorder.js";

const count = fc.maxSafeNat();
const protocol = expect.objectContaining({ code: "PROTOCOL" });

/** Disjoint, ascending ranges, and the chunks of a plan that they fit in. */
const want = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 2 ** 20 })), { maxLength: 40 })
  .map((steps) => {
    let next = 0;
    const ranges = steps.map(([gap, length]) => {
      const range = { first: next + gap, count: length };
      next = range.first + length;
      return range;
    });
    return { ranges, chunks: next };
  });

describe("WANT", () => {
  it("comes back as it was written", () => {
    fc.assert(
      fc.property(count, want, fc.boolean(), fc.boolean(), (windowBytes, { ranges, chunks }, ...flags) => {
        const [sameVersion, part] = flags;
        const given = { windowBytes, ranges, sameVersion, part };
        expect(parseWant(encodeWant(given), chunks)).toEqual(given);
      }),
    );
  });

  const body = () =>
    encodeWant({
      windowBytes: 1 << 20,
      ranges: [
        { first: 0, count: 3 },
        { first: 3, count: 2 },
      ],
    });
  const changed = (change: (view: DataView) => void): Uint8Array => {
    const bytes = body();
    change(new DataView(bytes.buffer));
    return bytes;
  };

  it.each<[string, Uint8Array]>([
    ["an empty body", new Uint8Array(0)],
    ["a body cut within its head", body().subarray(0, 15)],
    ["a body cut within a range", body().subarray(0, 31)],
    ["a byte too many", join(body(), Uint8Array.of(0))],
    ["more ranges than it holds", changed((view) => view.setUint32(8, 3, true))],
    ["a number of ranges that overflows", changed((view) => view.setUint32(8, 0x20000002, true))],
    ["a reserved flag", changed((view) => view.setUint32(12, 4, true))],
    ["a window past 2^53", changed((view) => view.setBigUint64(0, 2n ** 53n, true))],
    ["an empty range", changed((view) => view.setUint32(28, 0, true))],
    ["ranges that overlap", changed((view) => view.setUint32(24, 2, true))],
    ["a range past the plan", changed((view) => view.setUint32(28, 3, true))],
    ["a range whose end overflows", changed((view) => view.setUint32(28, 0xffffffff, true))],
  ])("refuses %s", (_what, bytes) => {
    expect(() => parseWant(bytes, 5)).toThrow(protocol);
    expect(parseWant(body(), 5).ranges).toHaveLength(2);
  });
});

describe("CREDIT", () => {
  it("comes back as it was written", () => {
    fc.assert(
      fc.property(count, count, (limit, finished) => {
        expect(parseCredit(encodeCredit({ limit, finished }))).toEqual({ limit, finished });
      }),
    );
  });

  it("refuses another length, and counts past 2^53", () => {
    const body = encodeCredit({ limit: 1, finished: 1 });
    expect(() => parseCredit(body.subarray(1))).toThrow(protocol);
    expect(() => parseCredit(join(body, body))).toThrow(protocol);
    for (const at of [0, 8]) {
      const bytes = body.slice();
      new DataView(bytes.buffer).setBigUint64(at, 2n ** 53n, true);
      expect(() => parseCredit(bytes)).toThrow(protocol);
    }
  });
});

describe("END and RECEIPT", () => {
  it("come back as they were written", () => {
    const digest = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(
        fc.record({ digest, chunks: count, sourceBytes: count, clamped: count }),
        fc.constantFrom("END" as const, "RECEIPT" as const),
        (totals, type) => {
          expect(parseTotals(type, encodeTotals(totals))).toEqual(totals);
          const strong = { ...totals, sha256: new Uint8Array(32).fill(7) };
          expect(parseTotals(type, encodeTotals(strong), "sha256")).toEqual(strong);
        },
      ),
    );
  });

  it("are as long as the integrity says", () => {
    const totals = { digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 };
    const strong = encodeTotals({ ...totals, sha256: new Uint8Array(32) });
    expect([encodeTotals(totals).length, strong.length]).toEqual([32, 64]);
    expect(() => parseTotals("END", strong)).toThrow(protocol);
    expect(() => parseTotals("END", encodeTotals(totals), "sha256")).toThrow(protocol);
  });

  it("refuse another length, and counts past 2^53", () => {
    const body = encodeTotals({ digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 });
    expect(() => parseTotals("END", body.subarray(0, 31))).toThrow(protocol);
    for (const at of [8, 16, 24]) {
      const bytes = body.slice();
      bytes.fill(0xff, at, at + 8);
      expect(() => parseTotals("RECEIPT", bytes)).toThrow(protocol);
    }
  });
});

describe("JSON bodies", () => {
  const hello: Hello = {
    versions: [1],
    software: "tensorwire/0.1.0",
    role: "any",
    codecs: ["none", "normfloat4"],
    limits: { maxChunkBytes: 1 << 24, maxManifestBytes: 1 << 28 },
  };
  const parseHello = (body: Uint8Array) => parseJson(FrameType.HELLO, HelloSchema, body);

  it("come back as they were written", () => {
    expect(parseHello(encodeJson(hello))).toEqual(hello);
    const fault = { code: "SOURCE_READ", message: "é\u0000\n", tensor: "a", chunk: 3, retryable: true };
    expect(parseJson(FrameType.ERROR, FaultSchema, encodeJson(fault))).toEqual(fault);
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 100 }), (message) => {
        const body = encodeJson({ code: "INTERNAL", message });
        expect(parseJson(FrameType.ERROR, FaultSchema, body).message).toBe(message);
      }),
    );
  });

  it("may have members that this version does not know", () => {
    const body = Buffer.from(JSON.stringify({ ...hello, later: { and: "more" } }));
    expect(parseHello(body)).toEqual(hello);
  });

  it.each<[string, unknown]>([
    ["no versions", { ...hello, versions: [] }],
    ["a version that is no integer", { ...hello, versions: [1.5] }],
    ["65 versions", { ...hello, versions: Array(65).fill(1) }],
    ["another role", { ...hello, role: "admin" }],
    ["a codec that is no name", { ...hello, codecs: [3] }],
    ["a codec with a long name", { ...hello, codecs: ["x".repeat(65)] }],
    ["1025 codecs", { ...hello, codecs: Array(1025).fill("x") }],
    ["a negative limit", { ...hello, limits: { ...hello.limits, maxChunkBytes: -1 } }],
    ["a limit past 2^53", { ...hello, limits: { ...hello.limits, maxManifestBytes: 2 ** 53 } }],
    ["no limits", { ...hello, limits: undefined }],
    ["long software", { ...hello, software: "x".repeat(201) }],
    ["an array", []],
    ["null", null],
  ])("of HELLO are refused with %s", (_what, body) => {
    expect(() => parseHello(Buffer.from(JSON.stringify(body)))).toThrow(protocol);
  });

  it("are refused where they are no JSON, or no UTF-8", () => {
    expect(() => parseHello(new Uint8Array(0))).toThrow(protocol);
    expect(() => parseHello(Buffer.from("{"))).toThrow(protocol);
    expect(() => parseHello(Buffer.from(`\ufeff${JSON.stringify(hello)}`))).toThrow(protocol);
    expect(() => parseHello(Buffer.from(JSON.stringify(hello).replace("any", "a\xff"), "latin1"))).toThrow(
      protocol,
    );
  });
});

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

describe("HELD", () => {
  const digests = (integrity: Integrity) =>
    fc.array(
      fc.record({
        codec: fc.nat(65_535),
        hash: u64,
        ...(integrity === "sha256" && { sha256: fc.uint8Array({ minLength: 32, maxLength: 32 }) }),
      }),
      { minLength: 1, maxLength: 20 },
    );

  it.each<Integrity>(["xxh64", "sha256"])("comes back as it was written, with %s", (integrity) => {
    fc.assert(
      fc.property(fc.nat(1 << 24), digests(integrity), fc.nat(9), (first, chunks, more) => {
        const body = encodeHeld({ first, chunks }, integrity);
        const total = first + chunks.length + more;
        expect(parseHeld(body, integrity, first, total)).toEqual({ first, chunks });
        expect(() => parseHeld(body, integrity, first + 1, total)).toThrow(protocol);
        expect(() => parseHeld(body, integrity, 0, first + chunks.length - 1)).toThrow(protocol);
        expect(() => parseHeld(body.subarray(1), integrity, 0, total)).toThrow(protocol);
      }),
    );
  });

  it("names at least one chunk", () => {
    expect(() => parseHeld(encodeHeld({ first: 0, chunks: [] }, "xxh64"), "xxh64", 0, 5)).toThrow(protocol);
    expect(() => parseHeld(new Uint8Array(3), "xxh64", 0, 5)).toThrow(protocol);
  });

  it("stays within the bytes that a control frame may have", () => {
    for (const integrity of ["xxh64", "sha256"] as const) {
      const count = maxHeldChunks(1000, integrity);
      const chunk = { codec: 1, hash: 2n, sha256: new Uint8Array(32) };
      const bytes = (n: number) =>
        encodeHeld({ first: 0, chunks: Array.from({ length: n }, () => chunk) }, integrity).length;
      // One more would not fit; the entry's own width is the integrity's.
      if (integrity === "sha256") expect(bytes(count + 1)).toBeGreaterThan(1000);
      expect(8 + count * (integrity === "sha256" ? 42 : 10)).toBeLessThanOrEqual(1000);
    }
  });

  it("and WANT share out a plan", () => {
    fc.assert(
      fc.property(want, ({ ranges, chunks }) => {
        const missing = missingRanges(ranges, chunks + 3);
        const all = [...ranges, ...missing].sort((a, b) => a.first - b.first);
        let next = 0;
        for (const { first, count } of all) {
          expect(first).toBe(next);
          next += count;
        }
        expect(next).toBe(chunks + 3);
      }),
    );
  });
});

describe("ranges in common", () => {
  const ordinals = (ranges: readonly { first: number; count: number }[]): number[] =>
    ranges.flatMap(({ first, count: length }) => Array.from({ length }, (_, i) => first + i));
  const short = fc
    .array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 5 })), { maxLength: 8 })
    .map((steps) => {
      let next = 0;
      return steps.map(([gap, length]) => {
        const range = { first: next + gap, count: length };
        next = range.first + length;
        return range;
      });
    });

  it("are those that are in both", () => {
    fc.assert(
      fc.property(short, short, (a, b) => {
        const both = new Set(ordinals(b));
        expect(ordinals(commonRanges(a, b))).toEqual(ordinals(a).filter((o) => both.has(o)));
        expect(commonRanges(a, b)).toEqual(commonRanges(b, a));
      }),
    );
  });
});

describe("ACK", () => {
  it("comes back as it was written", () => {
    fc.assert(
      fc.property(count, (durable) => {
        expect(parseAck(encodeAck({ durable }))).toEqual({ durable });
      }),
    );
    expect(() => parseAck(new Uint8Array(7))).toThrow(protocol);
    expect(() => parseAck(new Uint8Array(8).fill(0xff))).toThrow(protocol);
  });
});

describe("SOURCE", () => {
  it("names a version, or none", () => {
    for (const body of [{}, { version: "v1" }]) {
      expect(parseJson(FrameType.SOURCE, SourceStateSchema, encodeJson(body))).toEqual(body);
    }
    for (const version of ["", "x".repeat(129)]) {
      expect(() => parseJson(FrameType.SOURCE, SourceStateSchema, encodeJson({ version }))).toThrow(protocol);
    }
  });
});
