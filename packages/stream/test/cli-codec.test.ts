import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ended, json, run } from "./cli-process.js";

let folder: string;
let model: string;
const at = (name: string): string => join(folder, name);

/** A weight whose bytes have runs, a bias, integers, and a tensor with a NaN at element 4100. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-codec-"));
  model = at("model.safetensors");
  const weight = Float32Array.from({ length: 20_000 }, (_, i) => (i % 5000 < 2500 ? 0 : Math.sin(i)));
  const broken = new Float32Array(5000).fill(0.5);
  broken[4100] = Number.NaN;
  const tensors = [
    { name: "weight", dtype: "F32", shape: [20_000], data: weight },
    { name: "bias", dtype: "F32", shape: [100], data: new Float32Array(100) },
    { name: "ids", dtype: "I32", shape: [5000], data: new Int32Array(5000) },
    { name: "broken", dtype: "F32", shape: [5000], data: broken },
  ];
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += data.byteLength)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const bytes = tensors.map(({ data }) => Buffer.from(data.buffer));
  await writeFile(model, Buffer.concat([length, text, ...bytes]));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let artifacts = 0;

/** Packs the model; gives the result and, of each tensor, the codec. */
async function pack(...args: string[]) {
  const artifact = at(`${artifacts++}.twire`);
  const ended = await run("pack", model, artifact, "--json", ...args);
  expect(ended.code, ended.stderr).toBe(0);
  const shown = json(await run("inspect", artifact, "--json"));
  const codecs = Object.fromEntries(
    shown.tensors.map(({ name, codec }: { name: string; codec: object }) => [name, codec]),
  );
  return { artifact, summary: json(ended), shown, codecs };
}

async function policy(content: object): Promise<string> {
  const path = at(`${artifacts++}.json`);
  await writeFile(path, JSON.stringify(content));
  return path;
}

const NONE = { name: "none" };

describe("--codec", () => {
  test.each([
    [
      "linear4:mode=affine,rounding=stochastic",
      {
        name: "linear4",
        block: 256,
        mode: "affine",
        rounding: "stochastic",
        seed: expect.stringMatching(/^[0-9a-f]{16}$/),
      },
    ],
    [
      "linear2:rounding=stochastic,seed=1234567890123456",
      { name: "linear2", block: 256, mode: "symmetric", rounding: "stochastic", seed: "1234567890123456" },
    ],
    ["linear8:scale=0.01", { name: "linear8", mode: "symmetric", rounding: "nearest", scale: 0.01 }],
    ["normfloat4:nested=true", { name: "normfloat4", block: 64, nested: true }],
    ["float4:nested=true,block=128", { name: "float4", block: 128, nested: true }],
  ])("%s", async (text, spec) => {
    const { codecs } = await pack("--codec", text);
    expect(codecs).toEqual({ weight: spec, bias: NONE, ids: NONE, broken: spec });
  });

  test("--seed is the seed of what draws", async () => {
    const { codecs } = await pack("--codec", "linear4:rounding=stochastic", "--seed", "00000000000000ff");
    expect(codecs.weight).toMatchObject({ seed: "00000000000000ff" });
  });
});

describe("--policy", () => {
  test("use_quantization", async () => {
    const { codecs } = await pack("--policy", await policy({ use_quantization: true }));
    expect(codecs).toEqual({
      weight: { name: "float16" },
      bias: NONE,
      ids: NONE,
      broken: { name: "float16" },
    });
    const rules = [{ match: "w*", use_quantization: false }];
    const other = await pack(
      "--policy",
      await policy({ rules, codec: { name: "normfloat4", nested: true } }),
    );
    expect(other.codecs).toEqual({
      weight: NONE,
      bias: NONE,
      ids: NONE,
      broken: { name: "normfloat4", block: 64, nested: true },
    });
  });

  test("use_quantization beside a codec is refused, and the message says where", async () => {
    const path = await policy({ rules: [{ use_quantization: true, codec: "none" }] });
    const ended = await run("pack", model, at("x.twire"), "--policy", path, "--json");
    expect(ended.code).toBe(2);
    expect(json(ended).error.message).toContain("rules.0.use_quantization");
  });
});

describe("--compress", () => {
  test("never, which is the default, and auto: another size, the same digest, and the model all the same", async () => {
    const plain = await pack("--codec", "float16");
    const never = await pack("--codec", "float16", "--compress", "never");
    const auto = await pack("--codec", "float16", "--compress", "auto");
    expect(never.summary.wireBytes).toBe(plain.summary.wireBytes);
    const { digest, codeBytes, codecs } = plain.summary;
    expect(auto.summary).toMatchObject({ digest, codeBytes });
    expect(auto.shown.totals.payloadBytes).toBe(plain.shown.totals.payloadBytes);
    const unpacked = await run("unpack", auto.artifact, at("auto.safetensors"), "--json");
    expect(json(unpacked)).toMatchObject({ digest, packedChunks: auto.summary.packedChunks });
    if (auto.summary.packedChunks === 0) return console.log("SKIPPED: needs libzstd");
    expect(auto.summary.wireBytes).toBeLessThan(plain.summary.wireBytes);
    expect(auto.summary.codecs.float16.payloadBytes).toBe(codecs.float16.payloadBytes);
    expect(auto.summary.codecs.float16.wireBytes).toBeLessThan(codecs.float16.wireBytes);
    expect(auto.shown.totals.packedBytes).toBeLessThan(auto.shown.totals.payloadBytes);
    expect(auto.shown.artifact.packedChunks).toBe(auto.summary.packedChunks);
    const text = (await run("inspect", auto.artifact)).stdout;
    expect(text).toMatch(/^weight .* float16 {2}39\.1 KiB {2}[\d.]+ KiB packed$/m);
    expect(text).toMatch(/ encoded, [\d.]+ KiB packed\n.*; \d chunks packed; /);
  });

  test("lossless is packed unasked", async () => {
    const { summary, codecs } = await pack("--codec", "lossless");
    expect(codecs).toMatchObject({ weight: { name: "lossless" }, ids: { name: "lossless" }, bias: NONE });
    expect(summary.fallbackChunks).toBe(0);
    if (summary.packedChunks === 0) return console.log("SKIPPED: needs libzstd");
    expect(summary.packedChunks).toBe(3);
  });
});

describe("--non-finite", () => {
  test("exact, which is the default: the chunk is counted", async () => {
    for (const args of [[], ["--non-finite", "exact"]]) {
      const { summary, shown } = await pack("--codec", "blockwise8", ...args);
      expect(summary).toMatchObject({ fallbackChunks: 1, declinedChunks: 0 });
      expect(shown.artifact).toMatchObject({ fallbackChunks: 1 });
    }
  });

  test("error: nothing is written, and the message names tensor and element", async () => {
    const ended: Ended = await run(
      ...["pack", model, at("refused.twire"), "--codec", "blockwise8", "--non-finite", "error", "--json"],
    );
    expect(ended.code).toBe(3);
    expect(json(ended).error).toMatchObject({ code: "VALUE_NOT_FINITE", tensor: "broken", chunk: 0 });
    expect(ended.stderr).toContain('tensor "broken", chunk 0: element 4100 is NaN');
    expect((await run("inspect", at("refused.twire"))).code).toBe(3);
  });
});
