import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ChunkPlan, defaultCodecs, PortableBackend, type Tensor, TensorwireError } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifactSource } from "../src/source/artifact.js";
import { decodedArtifact, isDecodedArtifact } from "../src/source/decoded.js";
import { rawFileSource } from "../src/source/raw-file.js";
import { artifactFrames } from "./artifact-file.js";
import { pattern, poolFor, readWhole } from "./source-reading.js";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-decoded-"));
  path = join(folder, "model.twire");
});
afterEach(() => rm(folder, { recursive: true }));

const settings = { backend: new PortableBackend(), registry: defaultCodecs };
const values = Float32Array.from({ length: 30_001 }, (_, i) => Math.sin(i * 0.11));
const broken = values.slice();
broken[20_000] = Number.POSITIVE_INFINITY;
const tensors: Tensor[] = [
  { name: "w", dtype: "F32", shape: [30_001], data: values },
  { name: "ids", dtype: "I64", shape: [3], data: pattern(24) },
  { name: "none", dtype: "F32", shape: [0], data: new Uint8Array() },
  { name: "inf", dtype: "F32", shape: [30_001], data: broken },
];
const codec = ({ dtype }: Tensor) => ({ name: dtype === "F32" ? "normfloat4" : "none" });

describe("an artifact, decoded", () => {
  test("is what decoding each tensor whole gives, and exact where its chunks are", async () => {
    const { bytes, manifest } = artifactFrames({ tensors, codec, chunkBytes: 65536 });
    await writeFile(path, bytes);
    const source = decodedArtifact(artifactSource(path), settings);
    expect(isDecodedArtifact(source)).toBe(true);
    expect(source.name).toBe(path);
    expect(() => source.chunkBytes).toThrow(/not open/);
    const { info, tensors: read, loans } = await readWhole(source, 65536);
    expect(source.chunkBytes).toBe(65536);
    expect(info.tensors).toEqual(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
    expect(info.kind).toBe("model");
    const [{ codec: spec }] = manifest.tensors as [(typeof manifest.tensors)[0]];
    const reference = defaultCodecs.get("normfloat4");
    const payload = new Uint8Array(reference.payloadBytes(spec, "F32", values.length));
    reference.encode(spec, "F32", values.length, new Uint8Array(values.buffer), payload);
    const whole = new Uint8Array(values.length * 4);
    reference.decode(spec, "F32", values.length, payload, "F32", whole);
    expect(Buffer.compare(read.get("w")!, whole)).toBe(0);
    expect(Buffer.compare(read.get("ids")!, pattern(24))).toBe(0);
    // The second chunk holds the infinity, and travelled as it was; the first one did not.
    const inf = read.get("inf")!;
    expect(Buffer.compare(inf.subarray(65536), new Uint8Array(broken.buffer, 65536))).toBe(0);
    expect(Buffer.compare(inf.subarray(0, 65536), whole.subarray(0, 65536))).toBe(0);
    expect(loans).toBe(0);
  });

  test("keeps the source's header and metadata", async () => {
    const text = '{"__metadata__":{"a":"b"},"ids":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}}';
    const header = { format: "safetensors", text } as const;
    const metadata = new Map([["a", "b"]]);
    const content = { tensors: tensors.slice(1, 2), manifest: { header, metadata } };
    await writeFile(path, artifactFrames(content).bytes);
    const { info } = await readWhole(decodedArtifact(artifactSource(path), settings), 32768);
    expect(info).toMatchObject({ header, metadata });
  });

  test("is of a version of its own: what is made of it, in the same codec, need not be what the artifact has", async () => {
    await writeFile(path, artifactFrames({ tensors, codec, chunkBytes: 65536 }).bytes);
    const artifact = artifactSource(path);
    const source = decodedArtifact(artifactSource(path), settings);
    await Promise.all([artifact.open(), source.open()]);
    expect(source.version).toMatch(/^[0-9a-f]{32}$/);
    expect(source.version).not.toBe(artifact.version);
    await Promise.all([artifact.close(), source.close()]);
  });

  test("is read in its own chunks only", async () => {
    await writeFile(path, artifactFrames({ tensors, codec, chunkBytes: 65536 }).bytes);
    const source = decodedArtifact(artifactSource(path), settings);
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, 32768);
    const pool = poolFor(plan);
    for (const ordinal of [0, plan.chunks - 1]) {
      await expect(source.read(plan.chunk(ordinal), pool)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("chunks of 65536 bytes"),
      });
    }
    await source.close();
    expect(pool.loans).toBe(0);
  });

  test("leaves no loan where decoding or reading fails", async () => {
    const { bytes } = artifactFrames({ tensors, codec });
    await writeFile(path, bytes);
    const failing = Object.assign(new PortableBackend(), {
      decode: () => Promise.reject(new TensorwireError("INTERNAL", "no")),
    });
    const misread = Object.assign(new PortableBackend(), { hash: () => 0n });
    for (const [backend, verifying, code] of [
      [failing, undefined, "INTERNAL"],
      [settings.backend, misread, "SOURCE_INVALID"],
    ] as const) {
      const source = decodedArtifact(artifactSource(path, { backend: verifying }), { ...settings, backend });
      const info = await source.open();
      const plan = new ChunkPlan(info.tensors, 32768);
      const pool = poolFor(plan);
      await expect(source.read(plan.chunk(0), pool)).rejects.toMatchObject({ code });
      await source.close();
      expect(pool.loans).toBe(0);
    }
  });
});

describe("a raw file", () => {
  test.each([0, 1, 3_000_000])("of %i bytes", async (size) => {
    const file = join(folder, "weights ü.bin");
    await writeFile(file, pattern(size));
    const { info, tensors, loans } = await readWhole(rawFileSource(file));
    expect(info.kind).toBe("raw");
    expect(info.tensors).toEqual([{ name: "weights ü.bin", dtype: "U8", shape: [size] }]);
    expect(Buffer.compare(tensors.get("weights ü.bin")!, pattern(size))).toBe(0);
    expect(loans).toBe(0);
  });

  test("that is not there, or changes", async () => {
    const source = rawFileSource(path);
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_READ" });
    await source.close();
    await writeFile(path, pattern(10));
    const other = rawFileSource(path);
    await other.open();
    await writeFile(path, pattern(11));
    await expect(other.verify!()).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
    await other.close();
  });
});
