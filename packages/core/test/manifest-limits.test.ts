import { describe, expect, it } from "vitest";
import type { Limits } from "../src/index.js";
import { bare, bytesOf, errorOf, type Json, parse, written } from "./manifest-fixture.js";

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
