import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  defaultCodecs,
  encodeFrame,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  type Loan,
  parseTotals,
  serializeSafetensorsHeader,
  type Tensor,
} from "@tensorwire/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ModelReader } from "../src/fidelity/model-reader.js";
import { TensorCursor } from "../src/fidelity/tensor-cursor.js";
import {
  compareModels,
  evaluateModel,
  fromTensors,
  type ModelSource,
  streamModel,
  type TensorMap,
  type TensorValue,
  tensorsSource,
} from "../src/index.js";
import { sha256 } from "../src/session/sha256.js";
import { artifactBytes, artifactFrames, withIndex } from "./artifact-file.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-compare-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const floats = (count: number, seed = 1): Float32Array =>
  new Float32Array(count).map((_, i) => Math.sin(i * 12.9898 + seed) * 0.02 * (1 + (i % 7)));
const f32 = (shape: number[], data: Float32Array): TensorValue => ({ dtype: "F32", shape, data });

const model: TensorMap = {
  weight: f32([300, 333], floats(99_900)),
  scalar: f32([], floats(1)),
  empty: f32([0, 3], floats(0)),
  ids: { dtype: "I64", shape: [129], data: new BigInt64Array(129).map((_, i) => BigInt(i)) },
  bias: f32([4097], floats(4097, 5)),
};

/** The weight as the reference makes it whole, beside the original: the figures by the definition. */
function byDefinition(codec: string) {
  const x = (model as Record<string, TensorValue>).weight!.data as Float32Array;
  const [reference, spec] = [defaultCodecs.get(codec), defaultCodecs.resolve(codec)];
  const payload = new Uint8Array(reference.payloadBytes(spec, "F32", x.length));
  const y = new Float32Array(x.length);
  reference.encode(spec, "F32", x.length, new Uint8Array(x.buffer), payload);
  reference.decode(spec, "F32", x.length, payload, "F32", new Uint8Array(y.buffer));
  const off = x.map((value, i) => value - y[i]!);
  const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  return {
    bytes: payload.length,
    maxAbs: off.reduce((most, value) => Math.max(most, Math.abs(value)), 0),
    relativeL2: Math.sqrt(dot(off, off) / dot(x, x)),
    cosine: dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y)),
  };
}

test("an artifact whose payloads are not those of its SHA-256 is not compared, with an index or without", async () => {
  const tensors: Tensor[] = [{ name: "w", dtype: "F32", shape: [4097], data: floats(4097) }];
  const { frames, index } = artifactFrames({ tensors, sha256 });
  const end = frames.at(-1)!.subarray(HEADER_BYTES);
  const totals = { ...parseTotals("END", end, "sha256"), sha256: new Uint8Array(32) };
  const lying = encodeFrame(FrameType.END, 1, 0, encodeTotals(totals));
  const bytes = artifactBytes([...frames.slice(0, -1), lying]);
  const path = at("sha256-of-others.twire");
  await writeFile(path, bytes);
  const compared = compareModels(path, { w: f32([4097], floats(4097)) });
  await expect(compared).rejects.toMatchObject({
    code: "SOURCE_INVALID",
    message: expect.stringContaining("SHA-256"),
  });
  const endPosition = bytes.length - lying.length;
  const headBytes = artifactBytes(frames.slice(0, 2)).length;
  await writeFile(path, withIndex(bytes, { headBytes, endPosition }, index.bytes));
  await expect(compareModels(path, path)).rejects.toMatchObject({ code: "SOURCE_INVALID" });
});

test.each([32_768, 65_536, 1 << 20])("an artifact in chunks of %i beside its model", async (chunkBytes) => {
  const artifact = at(`${chunkBytes}.twire`);
  await streamModel(model, artifact, { codec: "blockwise8", chunkBytes });
  const { tensors, total } = await compareModels(model, artifact);
  expect(tensors.map(({ name }) => name)).toEqual(Object.keys(model));
  const { bytes, ...figures } = byDefinition("blockwise8");
  const [weight, , empty, ids] = tensors;
  for (const [key, value] of Object.entries(figures)) {
    expect(weight!.error![key as "maxAbs"], key).toBeCloseTo(value, 6);
  }
  expect(weight).toMatchObject({ a: { dtype: "F32", bitsPerWeight: 32 }, b: { bytes } });
  expect(weight!.b.bitsPerWeight).toBeCloseTo((8 * bytes) / 99_900, 12);
  expect(empty).toMatchObject({ elements: 0, differing: 0, b: { bitsPerWeight: 0 } });
  expect(ids).toMatchObject({ elements: 129, differing: 0, b: { dtype: "I64", bitsPerWeight: 64 } });
  expect(ids).not.toHaveProperty("error");
  expect(total.changed.tensors).toBe(2);
  expect(total.changed.elements).toBe(99_900 + 4097);
  expect(total.error.elements).toBe(99_900 + 4097 + 1);
});

test("two artifacts of different chunk sizes and codecs, with a chunk that travelled exactly", async () => {
  const data = floats(99_900);
  data[20_000] = Number.NaN;
  const holed = { ...model, weight: f32([300, 333], data) };
  await streamModel(holed, at("small.twire"), { codec: "normfloat4", chunkBytes: 32_768 });
  await streamModel(holed, at("large.twire"), { codec: "bfloat16", chunkBytes: 131_072 });
  const there = (await compareModels(at("small.twire"), at("large.twire"))).tensors[0]!;
  const back = (await compareModels(at("large.twire"), at("small.twire"))).tensors[0]!;
  expect(there.error!.nonFinite).toBe(1);
  expect(there.error!.maxAbs).toBe(back.error!.maxAbs);
  expect(there.error!.snrDb).toBeGreaterThan(15);
  expect(there.error!.snrDb).toBeLessThan(25);
  expect(there.b.bitsPerWeight).toBeGreaterThan(16);
});

test("other dtypes, another order, and what the caller's code yields", async () => {
  const x = floats(20_000);
  const wide = new Float64Array(x);
  const a: TensorMap = { x: f32([20_000], x), y: f32([2], floats(2)) };
  const b: TensorMap = { y: f32([2], floats(2)), x: { dtype: "F64", shape: [20_000], data: wide } };
  const { tensors, total } = await compareModels(a, b, { chunkBytes: 32_768 });
  expect(tensors.map(({ name }) => name)).toEqual(["x", "y"]);
  expect(total).toMatchObject({ differing: 0, changed: { tensors: 0 } });
  wide[19_999]! += 2 ** -40;
  const yielded = Object.entries(b).map(([name, value]) => ({ name, ...value }) as Tensor);
  const declared = () => fromTensors(yielded, yielded);
  const beside = await compareModels(a, declared());
  expect(beside.tensors.map(({ name }) => name)).toEqual(["y", "x"]);
  expect(beside.tensors[1]).toMatchObject({ differing: 1, error: { maxAbs: 2 ** -40 } });
  const turned = fromTensors(yielded.toReversed(), yielded.toReversed());
  await expect(compareModels(declared(), turned)).rejects.toMatchObject({ code: "SOURCE_MISMATCH" });
});

describe("what cannot be compared", () => {
  const of = (name: string, dtype: "F32" | "I32", shape: number[]): TensorMap => ({
    [name]: { dtype, shape, data: new Uint8Array(4 * shape.reduce((product, n) => product * n, 1)) },
  });

  test.each([
    [of("x", "F32", [2]), of("y", "F32", [2]), "only"],
    [of("x", "F32", [2]), {}, "only"],
    [{}, of("x", "F32", [2]), "only"],
    [of("x", "F32", [2, 3]), of("x", "F32", [3, 2]), "shapes differ"],
    [of("x", "F32", [2]), of("x", "I32", [2]), "dtypes"],
  ] as const)("is refused by name: %#", async (a, b, words) => {
    await expect(compareModels(a, b)).rejects.toMatchObject({
      code: "SOURCE_MISMATCH",
      tensor: expect.stringMatching(/[xy]/),
      message: expect.stringContaining(words),
    });
  });

  test("files that are no models, or end early", async () => {
    await writeFile(at("notes.bin"), "notes");
    await expect(compareModels(model, at("notes.bin"))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const { bytes } = serializeSafetensorsHeader([{ name: "x", dtype: "F32", shape: [100_000] }]);
    await writeFile(at("short.safetensors"), bytes);
    await truncate(at("short.safetensors"), bytes.length + 400_000);
    const x = f32([100_000], new Float32Array(100_000));
    await expect(compareModels({ x }, at("short.safetensors"))).resolves.toMatchObject({
      total: { differing: 0 },
    });
    await truncate(at("short.safetensors"), bytes.length + 399_999);
    await expect(compareModels({ x }, at("short.safetensors"))).rejects.toMatchObject({
      code: "SOURCE_INVALID",
    });
  });

  test("a source that fails: by tensor and chunk, in an error of ours", async () => {
    const broken = (): ModelSource => ({
      name: "mine",
      open: async () => tensorsSource(model).open(),
      read: () => {
        throw new Error("the database is gone");
      },
      close: async () => {},
    });
    for (const reading of [compareModels(model, broken()), evaluateModel(broken())]) {
      await expect(reading).rejects.toMatchObject({
        code: "SOURCE_READ",
        tensor: "weight",
        chunk: 0,
        message: expect.stringContaining("mine: the database is gone"),
      });
    }
    const shut = { ...broken(), open: () => Promise.reject(new Error("no key")) };
    await expect(compareModels(shut, model)).rejects.toMatchObject({ code: "INTERNAL" });
  });

  test("a signal that aborts ends it", async () => {
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(compareModels(model, model, { signal })).rejects.toMatchObject({ code: "ABORTED" });
    // Also while the caller's code takes its time; what it gives later goes back.
    const controller = new AbortController();
    let give: (loan: Loan) => void = () => {};
    const slow: ModelSource = {
      name: "slow",
      open: () => tensorsSource(model).open(),
      read: () => {
        controller.abort(new Error("enough"));
        return new Promise((resolve) => {
          give = resolve;
        });
      },
      close: async () => {},
    };
    await expect(compareModels(model, slow, { signal: controller.signal })).rejects.toMatchObject({
      code: "ABORTED",
    });
    const back = new Promise<void>((release) => give({ bytes: new Uint8Array(4), release }));
    await back;
  });
});

test("whoever reads half a tensor gives its chunk back", async () => {
  await streamModel(model, at("half.twire"), { codec: "float16", chunkBytes: 32_768 });
  const reader = await ModelReader.open(at("half.twire"), {});
  const cursor = new TensorCursor(reader, 0);
  expect(await cursor.held()).toMatchObject({ first: 0, elements: 8192 });
  cursor.skip(5000);
  expect(await cursor.held()).toMatchObject({ first: 5000, elements: 3192 });
  cursor.skip(3192);
  expect(await cursor.held()).toMatchObject({ first: 0, elements: 8192 });
  // What the file read ahead is given back when it is closed.
  await reader.close();
  expect(reader.loans).toBe(1);
  cursor.release();
  expect(reader.loans).toBe(0);
});
