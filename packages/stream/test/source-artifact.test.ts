import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BufferPool,
  ChunkPlan,
  type Codec,
  CodecRegistry,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeManifest,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  type Manifest,
  none,
  PortableBackend,
  PREAMBLE,
  type Tensor,
  type TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ArtifactOptions, artifactSource } from "../src/source/artifact.js";
import { artifactBytes, artifactFrames, dataFrame } from "./artifact-file.js";
import { pattern, poolFor } from "./source-reading.js";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-artifact-"));
  path = join(folder, "model.twire");
});
afterEach(() => rm(folder, { recursive: true }));

const floats = (count: number, phase = 0): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.37 + phase));
const withNaN = floats(20_000, 1);
withNaN[9000] = Number.NaN;
const tensors: Tensor[] = [
  { name: "w", dtype: "F32", shape: [200, 150], data: floats(30_000) },
  { name: "ids", dtype: "I32", shape: [9], data: pattern(36) },
  { name: "none", dtype: "F32", shape: [0, 2], data: new Uint8Array() },
  { name: "nan", dtype: "F32", shape: [20_000], data: withNaN },
  ...Array.from(
    { length: 200 },
    (_, i): Tensor => ({ name: `t${i}`, dtype: "U8", shape: [100], data: pattern(100, i) }),
  ),
];
const codec = ({ dtype }: Tensor) => ({ name: dtype === "F32" ? "blockwise8" : "none" });

/** Opens, reads every chunk with `hold` loans out, closes. */
async function readAll(
  options?: ArtifactOptions,
  hold = 3,
): Promise<{ manifest: Manifest; payloads: Buffer[] }> {
  const source = artifactSource(path, options);
  let pool = new BufferPool(1);
  try {
    const manifest = await source.open();
    const plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    pool = poolFor(plan);
    const payloads: Buffer[] = [];
    const held: { loan: { bytes: Uint8Array; release(): void } }[] = [];
    const finish = ({ loan }: (typeof held)[0]): void => {
      payloads.push(Buffer.from(loan.bytes));
      loan.release();
    };
    try {
      for (const chunk of plan.walk()) {
        const { record, loan } = await source.readEncoded(chunk, pool);
        expect(record).toEqual(source.record(chunk.ordinal));
        expect(record.hash).toBe(xxh64(loan.bytes));
        held.push({ loan });
        if (held.length > hold) finish(held.shift()!);
      }
    } finally {
      held.forEach(finish);
    }
    return { manifest, payloads };
  } finally {
    await source.close();
    expect(pool.loans).toBe(0);
  }
}

async function fault(bytes: Uint8Array, options?: ArtifactOptions): Promise<TensorwireError> {
  await writeFile(path, bytes);
  return readAll(options).then(
    () => Promise.reject(new Error("was read without a fault")),
    (error) => error,
  );
}

describe("a good artifact", () => {
  test.each([1, 2, 500])("gives its manifest and payloads, %i records a frame", async (recordsPerFrame) => {
    const { bytes, manifest, payloads } = artifactFrames({ tensors, codec, recordsPerFrame });
    await writeFile(path, bytes);
    const read = await readAll();
    expect(read.manifest).toEqual(manifest);
    expect(read.payloads.length).toBe(payloads.length);
    for (const [i, payload] of payloads.entries()) expect(Buffer.compare(read.payloads[i]!, payload)).toBe(0);
  });

  test("says what it is; a chunk with NaN is there as none", async () => {
    const { bytes, records, plan } = artifactFrames({ tensors, codec });
    await writeFile(path, bytes);
    const source = artifactSource(path);
    expect(() => source.totals).toThrow(/not open/);
    await source.open();
    expect(source.software).toBe("artifact-file test");
    expect(source.totals).toMatchObject({ chunks: plan.chunks, sourceBytes: plan.bytes, clamped: 3 });
    const ordinal = plan.range(3).first + 1;
    expect(source.record(ordinal)).toMatchObject({
      codec: 0,
      payloadBytes: 32768,
      hash: records[ordinal]!.hash,
    });
    await source.close();
  });

  test("of a model without chunks, and of one with the source's header", async () => {
    const empty = artifactFrames({ tensors: [tensors[2]!] });
    await writeFile(path, empty.bytes);
    expect((await readAll()).payloads).toEqual([]);
    const text = '{"ids":{"dtype":"I32","shape":[9],"data_offsets":[0,36]}}  ';
    const header = { format: "safetensors", text } as const;
    await writeFile(path, artifactFrames({ tensors: [tensors[1]!], manifest: { header } }).bytes);
    expect((await readAll()).manifest.header).toEqual(header);
  });

  test("payloads beyond 2^32", async () => {
    const GiB = 1024 ** 3;
    const chunkBytes = 512 * 1024 * 1024;
    const shape = [5 * GiB];
    const big: Manifest = {
      kind: "model",
      chunkBytes,
      metadata: new Map(),
      tensors: [{ name: "big", dtype: "I8", shape, codec: { name: "none" } }],
    };
    const manifest = encodeManifest(big);
    const plan = new ChunkPlan(big.tensors, chunkBytes);
    // No payload is hashed before it is read, so one with the right hash at the end is enough.
    const digest = new (await import("@tensorwire/core")).TransferDigest(plan);
    const handle = await open(path, "w");
    let at = 0;
    const put = async (bytes: Uint8Array): Promise<void> => {
      await handle.write(bytes, 0, bytes.length, at);
      at += bytes.length;
    };
    const hello = { versions: [1], software: "", role: "send", codecs: [] } as const;
    const limits = { maxChunkBytes: 0, maxManifestBytes: 0 };
    await put(PREAMBLE);
    await put(
      encodeFrame(FrameType.HELLO, 0, 0, encodeJson({ ...hello, versions: [1], codecs: [], limits })),
    );
    await put(encodeFrame(FrameType.MANIFEST, 1, 0, manifest));
    for (const { ordinal, tensor, first, elements, bytes } of plan.walk()) {
      const hash = BigInt(ordinal);
      const sizes = { payloadBytes: bytes, packedBytes: bytes };
      const record = { tensor, firstElement: first, elements, codec: 0, packing: 0, hash, ...sizes };
      await put(encodeDataHead(1, [record]));
      at += bytes;
      await handle.write(pattern(1000, ordinal), 0, 1000, at - 1000);
      digest.add(ordinal, 0, hash);
    }
    const totals = { digest: digest.transfer(manifest, 1), chunks: 10, sourceBytes: 5 * GiB, clamped: 0 };
    await put(encodeFrame(FrameType.END, 1, 0, encodeTotals(totals)));
    await handle.close();

    let tail = new Uint8Array();
    const hash = (bytes: Uint8Array): bigint => {
      tail = bytes.slice(-1000);
      return 9n;
    };
    const source = artifactSource(path, { backend: Object.assign(new PortableBackend(), { hash }) });
    await source.open();
    const pool = poolFor(plan);
    (await source.readEncoded(plan.chunk(9), pool)).loan.release();
    expect(Buffer.compare(tail, pattern(1000, 9))).toBe(0);
    await source.close();
    expect(pool.loans).toBe(0);
  });
});

describe("a file that is no whole artifact", () => {
  const good = artifactFrames({ tensors: tensors.slice(0, 8), codec, recordsPerFrame: 2 });
  const [hello, manifest] = good.frames as [Uint8Array, Uint8Array];
  const data = good.frames.slice(2, -1);
  const end = good.frames.at(-1)!;

  test("cut anywhere near a frame's edge", async () => {
    const cuts = new Set<number>();
    let at = PREAMBLE.length;
    for (const frame of good.frames) {
      for (const by of [-1, 0, 1, 19, 20, 21, 24, 60]) if (at + by < good.bytes.length) cuts.add(at + by);
      at += frame.length;
    }
    cuts.add(0).add(good.bytes.length - 1);
    for (const cut of cuts) {
      const error = await fault(good.bytes.subarray(0, cut));
      expect(error, `cut at ${cut}`).toMatchObject({ code: "SOURCE_INVALID" });
      expect(error.message).toMatch(
        cut < PREAMBLE.length ? /byte 0: this is no artifact/ : /byte \d+: the file is truncated/,
      );
    }
  });

  test("any bit of any frame turned over", async () => {
    // Every bit but those of the payloads, of which one each.
    const bits: number[] = [];
    let at = PREAMBLE.length;
    for (const frame of good.frames) {
      const isData = frame[1] === FrameType.DATA;
      const count = isData ? new DataView(frame.buffer, frame.byteOffset).getUint32(HEADER_BYTES, true) : 0;
      const covered = isData ? HEADER_BYTES + 4 + 36 * count : frame.length;
      for (let byte = 0; byte < covered; byte += byte < 70 ? 1 : 13) bits.push((at + byte) * 8 + (byte % 8));
      if (isData) bits.push((at + frame.length) * 8 - 3);
      at += frame.length;
    }
    for (let bit = 0; bit < PREAMBLE.length * 8; bit += 7) bits.push(bit);
    expect(bits.length).toBeGreaterThan(300);
    for (const bit of bits) {
      const bytes = good.bytes.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const error = await fault(bytes);
      expect(error, `bit ${bit}: ${error.message}`).toMatchObject({ code: "SOURCE_INVALID" });
      expect(error.message).toContain(`"${path}", byte `);
    }
  });

  test.each<[string, readonly Uint8Array[], RegExp]>([
    ["no frames", [], /byte 8: the file is truncated: it ends where a HELLO frame/],
    ["no HELLO", [manifest, ...data, end], /byte 8: a MANIFEST frame where HELLO should be/],
    ["two HELLOs", [hello, hello, manifest, ...data, end], /a HELLO frame where MANIFEST should be/],
    ["no END", [hello, manifest, ...data], /truncated: it ends where a DATA or END frame should begin/],
    ["two ENDs", [hello, manifest, ...data, end, end], /56 bytes follow the END frame/],
    [
      "DATA after END",
      [hello, manifest, ...data.slice(0, -1), end, data.at(-1)!],
      /tensor "t2".*END came before/,
    ],
    ["a chunk too few", [hello, manifest, ...data.slice(1), end], /tensor "w", chunk 0.*came in the place/],
    ["a chunk twice", [hello, manifest, data[0]!, ...data, end], /tensor "w", chunk 2: .*came in the place/],
    ["chunks in another order", [hello, manifest, data[1]!, data[0]!, ...data.slice(2), end], /in the place/],
    ["an ERROR", [hello, manifest, encodeFrame(FrameType.ERROR, 1, 0), ...data, end], /ERROR frame where/],
    ["a frame to the sender", [hello, encodeFrame(FrameType.MANIFEST, 1, 1)], /towards the sender/],
    ["HELLO of a transfer", [encodeFrame(FrameType.HELLO, 1, 0)], /byte 8: HELLO of transfer 1/],
    ["HELLO that is no JSON", [encodeFrame(FrameType.HELLO, 0, 0)], /not JSON/],
    ["a bad manifest", [hello, encodeFrame(FrameType.MANIFEST, 1, 0)], /manifest/],
    [
      "a DATA frame without records",
      [hello, manifest, encodeFrame(FrameType.DATA, 1, 0), ...data, end],
      /DATA frame of 0 bytes/,
    ],
  ])("%s", async (_, frames, message) => {
    const error = await fault(artifactBytes(frames));
    expect(error.message).toMatch(message);
    expect(error.code).toBe("SOURCE_INVALID");
    expect(error.message).toContain(`"${path}"`);
  });

  test("frames of another transfer", async () => {
    const record = good.records[0]!;
    const other = Buffer.concat([encodeDataHead(2, [record]), good.payloads[0]!]);
    const error = await fault(artifactBytes([hello, manifest, other, ...data, end]));
    expect(error).toMatchObject({ code: "SOURCE_INVALID", message: expect.stringContaining("transfer 2") });
  });

  test("an END that counts otherwise, or is of other data", async () => {
    const source = { digest: 0n, chunks: good.plan.chunks, sourceBytes: good.plan.bytes, clamped: 0 };
    const ending = (totals: object): Uint8Array =>
      encodeFrame(FrameType.END, 1, 0, encodeTotals({ ...source, ...totals }));
    const digest = new DataView(end.buffer, end.byteOffset).getBigUint64(HEADER_BYTES, true);
    const head = [hello, manifest, ...data];
    const messageOf = async (totals: object) =>
      (await fault(artifactBytes([...head, ending(totals)]))).message;
    expect(await messageOf({ digest: digest + 1n })).toMatch(/digest/);
    expect(await messageOf({ digest, chunks: 1 })).toMatch(/counts 1 chunks/);
    expect(await messageOf({ digest, sourceBytes: 1 })).toMatch(/of 1 bytes/);
  });

  test("a record that lies about its chunk", async () => {
    const first = good.records[0]!;
    const lies = [
      { elements: 1 },
      { firstElement: 4096 },
      { tensor: 3 },
      { codec: defaultCodecs.get("float16").id },
      { payloadBytes: first.payloadBytes - 1, packedBytes: first.payloadBytes - 1 },
    ];
    for (const lie of lies) {
      const record = { ...first, ...lie };
      const frame = dataFrame([record], [good.payloads[0]!.subarray(0, record.payloadBytes)]);
      const rest = good.records.slice(1).map((other, i) => dataFrame([other], [good.payloads[i + 1]!]));
      const error = await fault(artifactBytes([hello, manifest, frame, ...rest, end]));
      expect(error).toMatchObject({ code: "SOURCE_INVALID", tensor: "w", chunk: 0 });
    }
  });

  test("one chunk whose payload is another one's", async () => {
    const payloads = good.payloads.map((payload) => payload.slice());
    const ordinal = good.plan.range(3).first + 2;
    payloads[ordinal]![100]! ^= 1;
    const frames = good.records.map((record, i) => dataFrame([record], [payloads[i]!]));
    const error = await fault(artifactBytes([hello, manifest, ...frames, end]));
    expect(error).toMatchObject({ code: "SOURCE_INVALID", tensor: "nan", chunk: 2 });
    expect(error.message).toMatch(
      /^tensor "nan", chunk 2: ".*", byte \d+: the payload does not match its hash/,
    );
  });

  test("a payload that no reader has a buffer for", async () => {
    const wide: Codec = {
      ...none,
      name: "wide",
      id: 999,
      resolve: () => ({ name: "wide" }),
      supports: () => true,
      payloadBytes: (_spec, _dtype, elements) => elements * 8,
      encode: (_spec, _dtype, elements) => ({ bytes: elements * 8, scaleBytes: 0, nonFinite: 0, clamped: 0 }),
    };
    const registry = new CodecRegistry([none, wide]);
    const content = { codec: { name: "wide" }, chunkBytes: 1 << 20, registry };
    const tensor = (elements: number): Tensor => ({
      name: "w",
      dtype: "F32",
      shape: [elements],
      data: new Float32Array(elements),
    });
    const { bytes } = artifactFrames({ ...content, tensors: [tensor(1 << 17)] });
    await writeFile(path, bytes);
    await readAll({ registry });
    const error = await fault(artifactFrames({ ...content, tensors: [tensor((1 << 17) + 1)] }).bytes, {
      registry,
    });
    expect(error).toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringContaining("1048584 bytes"),
    });
  });

  test("a manifest that announces more than the file can hold takes no memory for it", async () => {
    const shape = [1 << 24, 32768];
    const huge = { name: "huge", dtype: "U8", shape, codec: { name: "none" } } as const;
    const bytes = encodeManifest({ ...good.manifest, tensors: [huge] });
    const before = process.memoryUsage().arrayBuffers;
    const error = await fault(artifactBytes([hello, encodeFrame(FrameType.MANIFEST, 1, 0, bytes), ...data]));
    expect(error).toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringContaining("16777216 chunks"),
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });
});

describe("what this side lacks or forbids", () => {
  const content = { tensors: tensors.slice(0, 2), codec };

  test("keeps its own code, and says where", async () => {
    const { bytes } = artifactFrames(content);
    const registry = new CodecRegistry([none]);
    const unknown = await fault(bytes, { registry });
    expect(unknown).toMatchObject({
      code: "CODEC_UNSUPPORTED",
      message: expect.stringContaining("blockwise8"),
    });
    expect(unknown.message).toContain(`"${path}", byte `);
    expect(await fault(bytes, { limits: { maxTensors: 1 } })).toMatchObject({ code: "LIMIT_EXCEEDED" });
  });

  test("a later version's file", async () => {
    const { bytes } = artifactFrames({ ...content, hello: { versions: [2], software: "tensorwire/9" } });
    expect(await fault(bytes)).toMatchObject({
      code: "VERSION_UNSUPPORTED",
      message: expect.stringContaining("tensorwire/9"),
    });
  });

  test("no file, a directory", async () => {
    const source = artifactSource(path);
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_READ" });
    await source.close();
    const directory = artifactSource(folder);
    await expect(directory.open()).rejects.toMatchObject({ code: "SOURCE_INVALID" });
    await directory.close();
  });

  test("a payload that changed after the file was opened", async () => {
    const { bytes, plan } = artifactFrames(content);
    await writeFile(path, bytes);
    const source = artifactSource(path);
    await source.open();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await writeFile(path, pattern(bytes.length));
    const pool = poolFor(plan);
    await expect(source.readEncoded(plan.chunk(0), pool)).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
    await source.close();
    expect(pool.loans).toBe(0);
  });
});
