import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  BUILT_IN_CODECS,
  ChunkIndex,
  CHUNK_ALIGNMENT,
  ChunkPlan,
  COUNT_BYTES,
  DEFAULT_CHUNK_BYTES,
  DEFAULT_LIMITS,
  DEFAULT_WINDOW_BYTES,
  DTYPE_BITS,
  type DType,
  defaultCodecs,
  ERROR_CODES,
  encodeCredit,
  encodeDataHead,
  encodeFooter,
  encodeFrame,
  encodeIndexHead,
  encodeJson,
  encodeManifest,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  FOOTER_BYTES,
  FrameType,
  formatDigest,
  HEADER_BYTES,
  type Hello,
  INDEX_ENTRY_BYTES,
  MAX_CHUNK_BYTES,
  type Manifest,
  MIN_CHUNK_BYTES,
  PREAMBLE,
  PROTOCOL_VERSION,
  RECORD_BYTES,
  TensorwireError,
  TransferDigest,
  xxh64,
} from "../src/index.js";
import { fenced, hex, hexOf, page, rows, section } from "./pages.js";

const wire = page("wire-format.md");

/** Bytes of the fields of a table whose columns begin with offset and size: one after the other, without gaps. */
function layoutBytes(fields: readonly string[][]): number {
  let end = 0;
  for (const [offset, size, name] of fields) {
    expect(Number(offset), name).toBe(end);
    end += Number(size);
  }
  return end;
}

/** A size's formula, as `4 × ceil(n / block) + n`, of n elements of 32 bits. */
function evaluated(formula: string, n: number, block = 0): number {
  const value = (atom: string) => ({ n, block, bits: 32 })[atom] ?? Number(atom);
  const product = (text: string): number => {
    const [first, ...rest] = text.split(/ ([×/]) /);
    let result = value(first!);
    for (let i = 0; i < rest.length; i += 2) {
      result = rest[i] === "×" ? result * value(rest[i + 1]!) : result / value(rest[i + 1]!);
    }
    return result;
  };
  const flat = formula.replace(/ceil\(([^)]*)\)/g, (_, inner: string) => String(Math.ceil(product(inner))));
  return flat.split(" + ").reduce((sum, term) => sum + product(term), 0);
}

const count = (text: string) => Number(text.replaceAll(",", ""));

describe("docs/errors.md", () => {
  const errors = page("errors.md");

  it("has every code, and no other", () => {
    const codes = [...errors.matchAll(/^### `(\w+)`$/gm)].map(([, code]) => code);
    expect(codes.sort()).toEqual([...ERROR_CODES].sort());
  });

  it.each(ERROR_CODES)("says of %s whether it is retryable, what it means and what to do", (code) => {
    const text = section(errors, `### \`${code}\``);
    const { retryable } = new TensorwireError(code, "");
    expect(text).toContain(`- **Retryable:** ${retryable ? "yes" : "no"}\n`);
    for (const part of ["Meaning", "Causes", "What to do"]) expect(text).toContain(`- **${part}:** `);
  });
});

describe("docs/limits.md", () => {
  const limits = page("limits.md");

  it("has every limit with its default", () => {
    const documented = rows(section(limits, "## What a peer may announce"));
    const found = documented.map(([name, value]) => [name, count(value!)]);
    expect(Object.fromEntries(found)).toEqual(DEFAULT_LIMITS);
    for (const [name, , , reason] of documented) expect(reason, `${name} has a reason`).not.toBe("");
  });

  it("has the defaults of chunk and window", () => {
    const documented = rows(section(limits, "## The window and the chunk"));
    const found = Object.fromEntries(documented.map(([name, value]) => [name, count(value!)]));
    expect(found).toMatchObject({
      windowBytes: DEFAULT_WINDOW_BYTES,
      chunkBytes: DEFAULT_CHUNK_BYTES,
      "smallest `windowBytes`": 2 * MIN_CHUNK_BYTES,
      "smallest `chunkBytes`": MIN_CHUNK_BYTES,
      "largest `chunkBytes`": MAX_CHUNK_BYTES,
    });
  });

  it("computes window / round trip as it says", () => {
    const found = rows(section(limits, "## How fast a window can be"));
    expect(found.length).toBeGreaterThan(3);
    for (const [window, trip, rate] of found) {
      const mebibytes = Number.parseFloat(window!) * 2 ** 20;
      const megabytes = mebibytes / (Number.parseFloat(trip!) / 1000) / 1e6;
      expect(Number.parseFloat(rate!.replaceAll(",", "")), `${window} at ${trip}`).toBeCloseTo(megabytes, 1);
    }
  });
});

describe("docs/wire-format.md", () => {
  it("has the version, the preamble and the sizes of the code", () => {
    expect(wire).toContain(`# The wire format, version ${PROTOCOL_VERSION}\n`);
    expect(hexOf(/\*\*preamble\*\* is the 8 bytes `([^`]*)`/.exec(wire)![1]!)).toBe(hex(PREAMBLE));
    const header = section(wire, "## The frame header");
    expect(header).toContain(`begins with ${HEADER_BYTES} bytes`);
    expect(layoutBytes(rows(header).filter(({ length }) => length === 4))).toBe(HEADER_BYTES);
    const data = section(wire, "### DATA");
    expect(data).toContain(`| ${COUNT_BYTES} | ${RECORD_BYTES} × count | records |`);
    expect(layoutBytes(rows(data.split("A record:")[1]!))).toBe(RECORD_BYTES);
    const totals = { digest: 0n, chunks: 0, sourceBytes: 0, clamped: 0 };
    expect(layoutBytes(rows(section(wire, "### END and RECEIPT")))).toBe(encodeTotals(totals).length);
    expect(layoutBytes(rows(section(wire, "### CREDIT")))).toBe(
      encodeCredit({ limit: 0, finished: 0 }).length,
    );
    const want = rows(section(wire, "### WANT"));
    const [head, range] = [encodeWant({ windowBytes: 0, ranges: [] }), want.pop()!];
    expect(layoutBytes(want)).toBe(head.length);
    expect(layoutBytes(rows(section(wire, "### INDEX")))).toBe(INDEX_ENTRY_BYTES);
    const footer = section(wire, "### The footer");
    expect(footer).toContain(`The last ${FOOTER_BYTES} bytes of the file`);
    expect(layoutBytes(rows(footer))).toBe(FOOTER_BYTES);
    expect(range.slice(0, 2)).toEqual([String(head.length), "8 × ranges"]);
  });

  it("has every frame type with its number", () => {
    const table = rows(section(wire, "## The frame header")).filter((row) => row.length === 5);
    const found = table.filter(([, name]) => name !== "reserved").map(([type, name]) => [name, Number(type)]);
    expect(Object.fromEntries(found)).toEqual(FrameType);
    for (const [, name, , , flag] of table) {
      if (["WANT", "RECEIPT", "CREDIT"].includes(name!)) expect(Number(flag)).toBe(FLAG_TO_SENDER);
    }
  });

  it("has every dtype with its bits", () => {
    const table = rows(section(wire, "## Conventions"));
    const found = table.flatMap(([names, size]) =>
      names!.split(", ").map((name) => [name.replaceAll("`", ""), Number(size)]),
    );
    expect(Object.fromEntries(found)).toEqual(DTYPE_BITS);
  });

  it("has every built-in codec, its number and sizes", () => {
    const table = rows(section(wire, "## Codecs")).filter((row) => row.length === 4 && /^\d+$/.test(row[0]!));
    expect(table.map(([id, name]) => [Number(id), name])).toEqual(
      BUILT_IN_CODECS.map(({ id, name }) => [id, name]),
    );
    for (const [, name, payload, scales] of table) {
      const codec = defaultCodecs.get(name!);
      const spec = codec.resolve({ name: name! });
      for (const n of [1, 63, 64, 65, 4096, 4097, 9999]) {
        const sizes = codec.payloadSizes?.(spec, "F32", n) ?? [codec.payloadBytes(spec, "F32", n)];
        const [formula, widths] = payload!.split(", with w of ");
        const expected = (widths === undefined ? ["0"] : widths.split(/, | or /))
          .filter((width) => Number(width) < 4)
          .map((width) => evaluated(formula!.replace("w ×", `${width} ×`), n, spec.block));
        expect(expected, `${name} of ${n}`).toEqual(sizes);
        expect(evaluated(scales!, n, spec.block), `${name} of ${n}`).toBe(codec.scaleBytes(spec, "F32", n));
      }
    }
  });

  it("has chunk plans as the code makes them", () => {
    const text = section(wire, "## The chunk plan");
    expect(text).toContain(`/ ${CHUNK_ALIGNMENT}) × ${CHUNK_ALIGNMENT}, 2^31)`);
    const table = rows(text);
    expect(table.length).toBeGreaterThan(5);
    for (const [dtype, shape, chunkBytes, elements] of table) {
      const tensor = { name: "x", dtype: dtype as DType, shape: JSON.parse(shape!) as number[] };
      const chunks = [...new ChunkPlan([tensor], Number(chunkBytes)).walk()];
      expect(chunks.map((chunk) => chunk.elements).join(", "), `${dtype} ${shape}`).toBe(elements);
    }
  });

  it("has hashes as the code computes them", () => {
    const encoder = new TextEncoder();
    const found = [...section(wire, "## Conventions").matchAll(/`xxh64\("(\w*)"\)` is `(\w+)`/g)];
    expect(found.length).toBe(2);
    for (const [, text, hash] of found) expect(formatDigest(xxh64(encoder.encode(text)))).toBe(hash);
  });

  it("has limits that exist", () => {
    const names = [...section(wire, "## Limits").matchAll(/`(max\w+)`/g)].map(([, name]) => name);
    expect(new Set(names)).toEqual(new Set(Object.keys(DEFAULT_LIMITS)));
  });
});

describe("the worked example of docs/wire-format.md", () => {
  const hello: Hello = {
    versions: [PROTOCOL_VERSION],
    software: "example/1",
    role: "send",
    codecs: ["none"],
    limits: { maxChunkBytes: 65536, maxManifestBytes: 1048576 },
  };
  const tensor = { name: "x", dtype: "F32", shape: [3], codec: { name: "none" } } as const;
  const model: Manifest = { kind: "model", chunkBytes: 32768, tensors: [tensor], metadata: new Map() };
  const manifest = encodeManifest(model);
  const payload = new Uint8Array(Float32Array.of(1, -0.5, 0.25).buffer);
  const hash = xxh64(payload);
  const digest = new TransferDigest(new ChunkPlan(model.tensors, model.chunkBytes));
  digest.add(0, 0, hash);
  const totals = encodeTotals({
    digest: digest.transfer(manifest, 1),
    chunks: 1,
    sourceBytes: 12,
    clamped: 0,
  });

  const record = {
    tensor: 0,
    firstElement: 0,
    elements: 3,
    codec: 0,
    packing: 0,
    payloadBytes: 12,
    packedBytes: 12,
    hash,
  };

  it("is what the code writes", () => {
    const sent = [
      PREAMBLE,
      encodeFrame(FrameType.HELLO, 0, 0, encodeJson(hello)),
      encodeFrame(FrameType.MANIFEST, 1, 0, manifest),
      encodeDataHead(1, [record]),
      payload,
      encodeFrame(FrameType.END, 1, 0, totals),
    ];
    expect(hexOf(fenced(wire, "sender"))).toBe(sent.map(hex).join(""));
  });

  it("has the index and footer that the code writes behind it", () => {
    const endPosition = hexOf(fenced(wire, "sender")).length / 2 - HEADER_BYTES - totals.length;
    const headBytes = endPosition - payload.length - encodeDataHead(1, [record]).length;
    const index = new ChunkIndex(new ChunkPlan(model.tensors, model.chunkBytes));
    index.add({ ...record, position: endPosition - payload.length });
    const body = index.bytes;
    const fileBytes = endPosition + 2 * HEADER_BYTES + totals.length + body.length + FOOTER_BYTES;
    const ending = [encodeIndexHead(1, body), body, encodeFooter({ headBytes, endPosition, fileBytes })];
    expect(hexOf(fenced(wire, "artifact"))).toBe(ending.map(hex).join(""));
  });

  it("is what the code answers", () => {
    const want = encodeWant({ windowBytes: 131072, ranges: [{ first: 0, count: 1 }] });
    const answers = [
      encodeFrame(FrameType.WANT, 1, FLAG_TO_SENDER, want),
      encodeFrame(FrameType.RECEIPT, 1, FLAG_TO_SENDER, totals),
    ];
    expect(hexOf(fenced(wire, "receiver"))).toBe(answers.map(hex).join(""));
    const credit = encodeCredit({ limit: 131084, finished: 12 });
    expect(hexOf(fenced(wire, "credit"))).toBe(hex(encodeFrame(FrameType.CREDIT, 1, FLAG_TO_SENDER, credit)));
  });

  it("has digests that are right", () => {
    const text = section(wire, "## A worked example");
    expect(text).toContain(`\`${formatDigest(digest.tensor(0))}\``);
    expect(text).toContain(`\`${formatDigest(digest.transfer(manifest, 1))}\``);
    expect(text).toContain(`xxh64 of the payload: ${formatDigest(hash)}`);
    expect(text).toContain(`the manifest's ${manifest.length} bytes`);
  });

  it("has SHA-256 that are right", () => {
    const sha256 = (...parts: readonly Uint8Array[]): Uint8Array =>
      createHash("sha256").update(Buffer.concat(parts)).digest();
    const bytes = encodeManifest({ ...model, integrity: "sha256" });
    expect(wire).toContain(`\`"metadata":[],"integrity":"sha256"}\`, ${bytes.length} bytes`);
    expect(Buffer.from(bytes).toString()).toMatch(/"metadata":\[\],"integrity":"sha256"}$/);
    const strong = new TransferDigest(new ChunkPlan(model.tensors, model.chunkBytes), sha256);
    strong.add(0, 0, hash, sha256(payload));
    const tensor = sha256(Uint8Array.of(0, 0), sha256(payload));
    const found = strong.sha256(bytes, 1)!;
    const all = [sha256(payload), sha256(bytes), tensor, found];
    expect(hex(sha256(sha256(bytes), tensor))).toBe(hex(found));
    expect(hexOf(fenced(wire, "sha256"))).toBe(all.map(hex).join(""));
    const weak = strong.transfer(bytes, 1);
    expect(wire).toContain(`Its xxh64 digest is \`${formatDigest(weak)}\``);
    const end = encodeTotals({ digest: weak, chunks: 1, sourceBytes: 12, clamped: 0, sha256: found });
    expect(hexOf(fenced(wire, "sha256-end"))).toBe(hex(end));
  });
});
