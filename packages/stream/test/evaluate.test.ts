import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blockwise8, CodecRegistry, defaultCodecs, none, PortableBackend } from "@tensorwire/core";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  compareModels,
  EVALUATED_CODECS,
  evaluateModel,
  openPlotter,
  streamModel,
  type TensorMap,
  type TensorValue,
} from "../src/index.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-evaluate-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const floats = (count: number, seed = 1): Float32Array =>
  new Float32Array(count).map((_, i) => Math.sin(i * 12.9898 + seed) * 0.02 * (1 + (i % 7)));

function model(): TensorMap {
  const holed = floats(30_000, 3);
  // In the second chunk of three.
  holed[9000] = Number.NaN;
  const brain = new Uint8Array(2 * 12_289);
  defaultCodecs
    .get("none")
    .decode({ name: "none" }, "F32", 12_289, new Uint8Array(floats(12_289).buffer), "BF16", brain);
  return {
    weight: { dtype: "F32", shape: [200, 333], data: floats(66_600) },
    holed: { dtype: "F32", shape: [30_000], data: holed },
    brain: { dtype: "BF16", shape: [12_289], data: brain },
    bias: { dtype: "F32", shape: [1000], data: floats(1000) },
    ids: { dtype: "I64", shape: [5000], data: new BigInt64Array(5000).map((_, i) => BigInt(i % 50)) },
  };
}

test("says of every codec what a transfer makes of the model", async () => {
  const seed = "0123456789abcdef";
  const drawn = defaultCodecs.resolve({ name: "linear4", rounding: "stochastic", seed });
  const tried = [...EVALUATED_CODECS, drawn];
  const { codecs, ...whole } = await evaluateModel(model(), { codecs: tried, chunkBytes: 32_768 });
  expect(whole).toMatchObject({
    tensors: 5,
    elements: 66_600 + 30_000 + 12_289 + 1000 + 5000,
    chunkBytes: 32_768,
  });
  expect(codecs.map(({ codec }) => codec)).toEqual(tried.map((spec) => defaultCodecs.resolve(spec)));
  for (const evaluation of codecs) {
    const { codec } = evaluation;
    const name = JSON.stringify(codec);
    for (const compress of ["never", "auto"] as const) {
      await streamModel(model(), at("m.twire"), { codec, compress, chunkBytes: 32_768, overwrite: true });
      const { total } = await compareModels(model(), at("m.twire"));
      const bytes = compress === "auto" ? evaluation.packedBytes : evaluation.bytes;
      expect(bytes, `${name}, ${compress}`).toBe(total.b.bytes);
      expect(evaluation.error.maxAbs, name).toBe(total.error.maxAbs);
      expect(evaluation.error.differing, name).toBe(total.error.differing);
    }
    const lossy = codec.name !== "none" && codec.name !== "lossless";
    expect(evaluation.exactChunks > 0, name).toBe(lossy);
    expect(evaluation.encodeBytesPerSecond > 0, name).toBe(codec.name !== "none");
    expect(evaluation.bitsPerWeight, name).toBeCloseTo((8 * evaluation.bytes) / whole.elements, 12);
  }
}, 60_000);

test("every codec sees the same chunks, once, in order", async () => {
  const source: TensorMap = { w: { dtype: "F32", shape: [40_000], data: floats(40_000) } };
  const reads: number[] = [];
  const data = (source as Record<string, TensorValue>).w!.data as Float32Array;
  const bytes = new Uint8Array(data.buffer);
  const { codecs } = await evaluateModel(
    {
      name: "counted",
      open: async () => ({
        kind: "model",
        tensors: [{ name: "w", dtype: "F32", shape: [40_000] }],
        metadata: new Map(),
      }),
      read: ({ ordinal, offset, bytes: length }) => {
        reads.push(ordinal);
        return { bytes: bytes.subarray(offset, offset + length), release: () => {} };
      },
      close: async () => {},
    },
    { codecs: ["float16", "blockwise8", { name: "normfloat4", block: 128 }], chunkBytes: 32_768 },
  );
  expect(reads).toEqual([0, 1, 2, 3, 4]);
  expect(codecs.map(({ error }) => error.elements)).toEqual([40_000, 40_000, 40_000]);
});

test("only what is known is tried, and tensors that are small enough are left alone", async () => {
  const w: TensorMap = { w: { dtype: "F32", shape: [4095], data: floats(4095) } };
  const registry = new CodecRegistry([none, blockwise8]);
  const [exactly, quantized] = (await evaluateModel(w, { registry })).codecs;
  expect([exactly?.codec.name, quantized?.codec.name]).toEqual(["none", "blockwise8"]);
  expect(quantized).toMatchObject({
    tensors: 0,
    bytes: 4 * 4095,
    error: { elements: 0 },
    encodeBytesPerSecond: 0,
  });
  const [all] = (await evaluateModel(w, { codecs: ["blockwise8"], minElements: 0 })).codecs;
  expect(all).toMatchObject({ tensors: 1, bytes: 4095 + 4, scaleBytes: 4, error: { elements: 4095 } });
  await expect(evaluateModel(w, { codecs: ["float5"] })).rejects.toMatchObject({ code: "CODEC_UNSUPPORTED" });
  // A seed is drawn where one is needed.
  const codecs = [{ name: "linear4", rounding: "stochastic" }] as const;
  const [drawn] = (await evaluateModel(w, { codecs, minElements: 0 })).codecs;
  expect(drawn?.codec.seed).toMatch(/^[0-9a-f]{16}$/);
  const nothing = await evaluateModel({});
  expect(nothing).toMatchObject({ tensors: 0, elements: 0, bytes: 0 });
  expect(nothing.codecs.map(({ codec }) => codec.name)).toEqual(EVALUATED_CODECS.map(({ name }) => name));
});

test("a plot has a point and a label for each codec", async () => {
  const evaluation = await evaluateModel(model(), { codecs: ["none", "float16", "linear4", "normfloat4"] });
  const svg = await (await openPlotter()).draw(evaluation);
  expect(svg).toMatch(/^<svg /);
  for (const { codec } of evaluation.codecs) expect(svg).toContain(`>${codec.name}</text>`);
  expect(
    svg.match(/<path aria-roledescription="symbol mark"|<path transform="translate\([^"]*\)" d="M[^"]*A/g),
  ).toHaveLength(4);
});

test("without vega, a plot says what to install", async () => {
  vi.doMock("vega", () => {
    throw new Error("Cannot find package 'vega'");
  });
  await expect(openPlotter()).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("npm install vega"),
  });
  vi.doUnmock("vega");
});

test("a backend that fails says where", async () => {
  const w: TensorMap = { w: { dtype: "F32", shape: [20_000], data: floats(20_000) } };
  class Failing extends PortableBackend {
    override decode(): Promise<never> {
      return Promise.reject(new Error("no more"));
    }
  }
  await expect(evaluateModel(w, { codecs: ["float16"], backend: new Failing() })).rejects.toMatchObject({
    code: "INTERNAL",
    tensor: "w",
    chunk: 0,
  });
});
