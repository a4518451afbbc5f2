import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BufferPool, ChunkPlan, serializeSafetensorsHeader, type TensorInfo } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { safetensorsSource } from "../src/source/safetensors.js";
import { pattern, poolFor, readWhole, safetensorsFile } from "./source-reading.js";

const FIXTURES = join(import.meta.dirname, "../../core/test/fixtures/safetensors");

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-safetensors-"));
  path = join(folder, "model.safetensors");
});
afterEach(() => rm(folder, { recursive: true }));

const infos: TensorInfo[] = [
  { name: "large", dtype: "F32", shape: [600, 1024] },
  { name: "odd", dtype: "U8", shape: [333] },
  { name: "empty", dtype: "F16", shape: [0, 4] },
  { name: "scalar", dtype: "I64", shape: [] },
  ...Array.from(
    { length: 50 },
    (_, i): TensorInfo => ({ name: `small.${i}`, dtype: "BF16", shape: [17, i] }),
  ),
  { name: "four bits", dtype: "F4", shape: [3, 4096, 2] },
];

test.each([1 << 20, 32768])("every byte of every tensor, in chunks of %i", async (chunkBytes) => {
  const file = safetensorsFile(infos, { metadata: [["format", "pt"]] });
  await writeFile(path, file);
  const { info, tensors, loans } = await readWhole(safetensorsSource(path), chunkBytes);
  expect(info.tensors).toEqual(infos);
  expect([...info.metadata]).toEqual([["format", "pt"]]);
  expect(Buffer.compare(Buffer.concat([...tensors.values()]), file.subarray(-1 * dataBytes(tensors)))).toBe(
    0,
  );
  expect(loans).toBe(0);
});

test.each(["padded", "header-order", "scalar-and-empty", "unaligned", "dtypes", "sub-byte", "no-tensors"])(
  "the file can be made again from header and tensors: %s",
  async (name) => {
    const file = join(FIXTURES, `${name}.safetensors`);
    const { info, tensors } = await readWhole(safetensorsSource(file));
    const header = Buffer.from(info.header!.text);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    expect(Buffer.compare(Buffer.concat([length, header, ...tensors.values()]), await readFile(file))).toBe(
      0,
    );
  },
);

function dataBytes(tensors: ReadonlyMap<string, Uint8Array>): number {
  return [...tensors.values()].reduce((sum, { length }) => sum + length, 0);
}

describe("a 5 GiB tensor of I8, and what follows it", () => {
  const GiB = 1024 ** 3;
  const bytes = 5 * GiB;
  const big: TensorInfo[] = [
    { name: "big", dtype: "I8", shape: [5, GiB] },
    { name: "tail", dtype: "F32", shape: [1000] },
  ];
  const places = [0, 2 ** 31 - 700, 2 ** 32 - 700, bytes - 2000];

  test("the right bytes come from the right places", async () => {
    const { bytes: header, dataBytes } = serializeSafetensorsHeader(big);
    const handle = await open(path, "w");
    await handle.truncate(header.length + dataBytes);
    await handle.write(header, 0, header.length, 0);
    for (const at of places) await handle.write(pattern(2000, at + 1), 0, 2000, header.length + at);
    await handle.write(pattern(4000, 99), 0, 4000, header.length + bytes);
    await handle.close();

    const source = safetensorsSource(path);
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, 4 * 1024 * 1024);
    expect(plan.chunks).toBe(1281);
    const pool = poolFor(plan);
    for (const at of places) {
      const expected = pattern(2000, at + 1);
      const got = Buffer.alloc(2000);
      for (let ordinal = Math.floor(at / plan.chunkBytes); ordinal * plan.chunkBytes < at + 2000; ordinal++) {
        const chunk = plan.chunk(ordinal);
        if (chunk.tensor !== 0) break;
        const loan = await source.read(chunk, pool);
        const from = Math.max(at, chunk.offset);
        const to = Math.min(at + 2000, chunk.offset + chunk.bytes);
        got.set(loan.bytes.subarray(from - chunk.offset, to - chunk.offset), from - at);
        loan.release();
      }
      expect(Buffer.compare(got, expected)).toBe(0);
    }
    const tail = await source.read(plan.chunk(1280), pool);
    expect(Buffer.compare(tail.bytes, pattern(4000, 99))).toBe(0);
    tail.release();
    await source.verify!();
    await source.close();
    expect(pool.loans).toBe(0);
  });
});

describe("faults", () => {
  const small: TensorInfo[] = [{ name: "w", dtype: "F32", shape: [300, 1000] }];

  test("a file that changes while it is read", async () => {
    await writeFile(path, safetensorsFile(small));
    const source = safetensorsSource(path);
    const info = await source.open();
    const plan = new ChunkPlan(info.tensors, 1 << 19);
    const pool: BufferPool = poolFor(plan);
    (await source.read(plan.chunk(0), pool)).release();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await writeFile(path, safetensorsFile(small, { seed: 2 }));
    (await source.read(plan.chunk(1), pool)).release();
    await expect(source.verify!()).rejects.toMatchObject({ code: "SOURCE_CHANGED", retryable: true });
    await truncate(path, 5000);
    await expect(async () => source.read(plan.chunk(2), pool)).rejects.toMatchObject({
      code: "SOURCE_CHANGED",
    });
    await source.close();
    expect(pool.loans).toBe(0);
  });

  test.each<[string, (file: Buffer) => Uint8Array, string]>([
    ["empty", () => Buffer.alloc(0), "too few"],
    ["seven bytes", (file) => file.subarray(0, 7), "too few"],
    ["cut in the header", (file) => file.subarray(0, 30), "ends inside its header"],
    ["cut in the data", (file) => file.subarray(0, -1), "truncated"],
    ["too long", (file) => Buffer.concat([file, Buffer.alloc(1)]), "no tensor owns"],
    ["no safetensors", () => pattern(5000), "hardly a safetensors file"],
  ])("%s", async (_, change, message) => {
    await writeFile(path, change(Buffer.from(safetensorsFile(small))));
    const source = safetensorsSource(path);
    await expect(source.open()).rejects.toMatchObject({
      code: "SOURCE_INVALID",
      message: expect.stringMatching(new RegExp(`"${path}": .*${message}`)),
    });
    await source.close();
  });

  test("a fault of one tensor names the tensor, the file, and the limit", async () => {
    const text = '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,3]}}';
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    await writeFile(path, Buffer.concat([length, Buffer.from(text), Buffer.alloc(3)]));
    await expect(safetensorsSource(path).open()).rejects.toMatchObject({
      code: "SOURCE_INVALID",
      tensor: "w",
      message: expect.stringMatching(new RegExp(`^tensor "w": "${path}": data_offsets`)),
    });
    await writeFile(path, safetensorsFile(infos));
    const source = safetensorsSource(path, { limits: { maxTensors: 3 } });
    await expect(source.open()).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await source.close();
  });

  test("no file", async () => {
    const source = safetensorsSource(path);
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_READ" });
    await source.close();
    expect(await readdir(folder)).toEqual([]);
  });
});
