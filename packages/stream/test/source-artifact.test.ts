import { open, writeFile } from "node:fs/promises";
import {
  ChunkPlan,
  CodecRegistry,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeManifest,
  encodeTotals,
  FrameType,
  type Manifest,
  none,
  PortableBackend,
  PREAMBLE,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { artifactSource } from "../src/source/artifact.js";
import { artifactFrames } from "./artifact-file.js";
import { codec, fault, folder, hasPath, path, readAll, tensors } from "./artifact-fixture.js";
import { pattern, poolFor } from "./source-reading.js";

hasPath();

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
