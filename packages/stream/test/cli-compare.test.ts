import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { comparisonText } from "../src/cli/comparison-text.js";
import { compareModels } from "../src/index.js";
import { json, makeModel, run } from "./cli-process.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-cli-compare-"));
  await makeModel(at("model.safetensors"), [
    { name: "embed.weight", dtype: "F32", shape: [300, 400] },
    { name: "bias", dtype: "F32", shape: [33] },
    { name: "ids", dtype: "I64", shape: [17] },
  ]);
  await run("pack", at("model.safetensors"), at("model.twire"), "--codec", "blockwise8");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a table for people, one object for programs", async () => {
  const shown = await run("compare", at("model.safetensors"), at("model.twire"));
  expect(shown.code).toBe(0);
  const [headings, first, , ids] = shown.stdout.split("\n");
  expect(headings).toMatch(/^tensor +dtype +shape +bits +max abs +mean abs +rel\. L2 +cosine +SNR$/);
  expect(first).toMatch(/^embed\.weight +F32 +\[300, 400\] +32 > 8\.008 +0\.0\d+ .* 0\.99\d+ +\d\d\.\d dB$/);
  expect(ids).toMatch(/^ids +I64 +\[17\] +64 +same$/);
  expect(shown.stdout).toMatch(
    /\n3 tensors, \d+ elements differing; 469 KiB against 118 KiB, .* bits a weight\n$/,
  );

  const compared = json(await run("compare", at("model.safetensors"), at("model.twire"), "--json"));
  expect(Object.keys(compared)).toEqual(["tensors", "total"]);
  expect(compared.tensors[0]).toMatchObject({ name: "embed.weight", b: { dtype: "F32" } });
  expect(compared.total.changed).toMatchObject({ tensors: 1, elements: 120_000, nonFinite: 0 });
  // JSON has no infinity.
  expect(compared.tensors[1].error).toMatchObject({ differing: 0, snrDb: null });
});

test("a tensor that became NaN does not look like one that is the same", async () => {
  const of = (value: number) => ({
    w: { dtype: "F32", shape: [3], data: new Float32Array(3).fill(value) } as const,
  });
  const [, line] = comparisonText(await compareModels(of(1), of(Number.NaN))).split("\n");
  expect(line).toMatch(/^w +F32 +\[3\] +32 +3 NaN or infinite differ *$/);
});

test("models that do not fit together are refused by name", async () => {
  await makeModel(at("other.safetensors"), [{ name: "bias", dtype: "F32", shape: [34] }]);
  const refused = await run("compare", at("other.safetensors"), at("model.twire"));
  expect(refused.code).toBe(3);
  expect(refused.stderr).toMatch(
    /SOURCE_MISMATCH: tensor "bias": F32 \[34\] in .* F32 \[33\] in .*shapes differ/,
  );
});
