import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { json, makeModel, run } from "./cli-process.js";

let folder: string;
let model: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-cli-evaluate-"));
  model = at("model.safetensors");
  await makeModel(model, [
    { name: "embed.weight", dtype: "F32", shape: [300, 400] },
    { name: "bias", dtype: "F32", shape: [33] },
  ]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a line for each codec, the ones that are asked for", async () => {
  const list = "none,blockwise8,normfloat4:block=128,nested=true,linear4:mode=affine";
  const shown = await run("evaluate", model, "--codecs", list);
  expect(shown.code).toBe(0);
  const [headings, ...lines] = shown.stdout.trimEnd().split("\n");
  expect(headings).toMatch(/^codec +size +of source +bits +packed +scales +max abs .* SNR +encode +decode$/);
  expect(lines[0]).toMatch(/^none +469 KiB +100\.0 % +32 +\S+ KiB +same$/);
  expect(lines[1]).toMatch(/^blockwise8 +117 KiB +25\.0 % +8\.0\d+ .* dB +[\d.]+ GB\/s +[\d.]+ GB\/s$/);
  expect(lines.slice(2, 4).map((line) => line.split(" ")[0])).toEqual([
    "normfloat4:block=128,nested=true",
    "linear4:mode=affine",
  ]);
  expect(lines[4]).toMatch(/^2 tensors, 120033 elements, 469 KiB in chunks of 4\.00 MiB; .* codecs/);
});

test("all of them, as JSON, with a plot", async () => {
  const done = await run("evaluate", model, "--json", "--plot", at("plot.svg"), "--min-elements", "0");
  expect(done.code).toBe(0);
  const { codecs } = json(done);
  expect(codecs.map(({ codec }: { codec: { name: string } }) => codec.name)).toContain("lossless");
  expect(codecs[4]).toMatchObject({ codec: { name: "blockwise8", block: 4096 }, tensors: 2 });
  expect(await readFile(at("plot.svg"), "utf8")).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
});

test("what cannot be is refused before anything is measured, and leaves nothing", async () => {
  await writeFile(at("there.svg"), "a drawing");
  const taken = await run("evaluate", model, "--plot", at("there.svg"), "--json");
  expect([taken.code, json(taken).error.code]).toEqual([4, "TARGET_EXISTS"]);
  expect(await readFile(at("there.svg"), "utf8")).toBe("a drawing");
  const unknown = await run("evaluate", model, "--codecs", "blockwise8,float5", "--json");
  expect([unknown.code, json(unknown).error.code]).toEqual([7, "CODEC_UNSUPPORTED"]);
  const missing = await run("evaluate", at("no.safetensors"), "--plot", at("none.svg"), "--json");
  expect(missing.code).toBe(3);
  expect((await readdir(folder)).filter((name) => name.startsWith("none.svg"))).toEqual([]);
});
