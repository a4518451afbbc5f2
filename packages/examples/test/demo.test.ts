import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoModel } from "../src/demo/model.js";
import { SafetensorsReader } from "./safetensors-reader.js";
import { type Output, run } from "./program.js";

const TARGET = "out/model-embeddings-en.normfloat4.safetensors";

let scratch: string;
let output: Output;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "demo-test-"));
  output = await run("demo/main", [], scratch);
}, 60_000);

afterAll(() => rm(scratch, { recursive: true, force: true }));

const figure = (pattern: RegExp): number => Number(pattern.exec(output.stdout)?.[1]?.replaceAll(",", ""));

test("the demo succeeds, and fits a terminal of 80 columns, without colours where it is none", () => {
  expect(output.code, output.stderr).toBe(0);
  expect(output.stdout).not.toContain("\x1b");
  expect(output.stdout).not.toContain("\r");
  expect(output.stdout.split("\n").filter((line) => [...line].length > 80)).toEqual([]);
  expect(output.stdout.split("\n").filter((line) => line !== line.trimEnd())).toEqual([]);
  expect(output.stdout).toContain(TARGET);
});

test("it shows the model's sizes, and what 4 bits do to them", () => {
  expect(figure(/([\d,]+) weights/)).toBe(6_975_914);
  expect(figure(/ (\d+) tensors, /)).toBe(61);
  expect(figure(/source +([\d.]+) MB/)).toBeCloseTo((6_975_914 * 4) / 1e6, 2);
  expect(figure(/([\d.]+)x smaller/)).toBeGreaterThan(6.9);
  expect(figure(/framing +([\d.]+) kB/)).toBeLessThan(20);
  expect(output.stdout).toMatch(/100 % {2}27\.90 MB/);
});

test("it shows the error against the original, and the memory of each process", () => {
  const all = /all 11 quantized +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) dB/.exec(output.stdout);
  const [maxAbs, meanAbs, relativeL2, cosine, snr] = all!.slice(1).map(Number);
  expect(meanAbs!).toBeLessThan(maxAbs!);
  expect(relativeL2).toBeLessThan(0.12);
  expect(cosine).toBeGreaterThan(0.99);
  expect(snr).toBeGreaterThan(15);
  expect(20 * Math.log10(1 / relativeL2!)).toBeCloseTo(snr!, 0);
  expect(output.stdout).toContain("among them the 26 of int32");
  for (const end of ["sender", "receiver"]) {
    const peak = figure(new RegExp(`${end} +([\\d.]+) MiB at its peak`));
    expect(peak).toBeGreaterThan(40);
    expect(peak).toBeLessThan(200);
  }
});

// Not by the demo's own means: TensorFlow.js' format is the weights, one after the other, cut into shards.
test("the file holds every tensor, integers and small ones to the bit", async () => {
  const { path } = demoModel();
  const { weightsManifest } = JSON.parse(await readFile(path, "utf8")) as {
    weightsManifest: { paths: string[]; weights: { name: string; dtype: string; shape: number[] }[] }[];
  };
  const reader = await SafetensorsReader.open(join(scratch, TARGET));
  let exact = 0;
  for (const { paths, weights } of weightsManifest) {
    const shards = await Promise.all(paths.map((name) => readFile(join(path, "..", name))));
    const data = Buffer.concat(shards);
    let at = 0;
    for (const { name, dtype, shape } of weights) {
      const info = reader.entries.get(name)!.info;
      expect(info).toEqual({ name, dtype: dtype === "int32" ? "I32" : "F32", shape });
      const elements = shape.reduce((product, n) => product * n, 1);
      const received = await reader.read(name, 0, new Uint8Array(elements * 4));
      const original = data.subarray(at, at + elements * 4);
      at += elements * 4;
      if (dtype === "int32" || elements < 4096) {
        expect(Buffer.from(received).equals(original), name).toBe(true);
        exact++;
      } else {
        const x = new Float32Array(Uint8Array.from(original).buffer);
        const y = new Float32Array(received.buffer);
        const error = x.reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0);
        const signal = x.reduce((sum, value) => sum + value ** 2, 0);
        expect(error, name).toBeGreaterThan(0);
        expect(10 * Math.log10(signal / error), name).toBeGreaterThan(15);
      }
    }
    expect(at).toBe(data.length);
  }
  expect(reader.entries.size).toBe(61);
  expect(exact).toBe(50);
  await reader.close();
});
