import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CliProcess, json, makeModel, run } from "./cli-process.js";

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-cli-residuals-"));
  await makeModel(at("model.safetensors"), [{ name: "w", dtype: "F32", shape: [200, 300] }]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("residuals go from one transfer to the next, and to no other codec", async () => {
  const residuals = ["--residuals", at("r"), "--codec"];
  const receiver = new CliProcess(["receive", "--listen", "127.0.0.1:0", "--out", at("out.safetensors")]);
  const url = await receiver.url();
  expect((await run("send", at("model.safetensors"), url, ...residuals, "linear3")).code).toBe(0);
  expect((await receiver.ended).code).toBe(0);
  const first = await readFile(at("r"));

  expect((await run("pack", at("model.safetensors"), at("m.twire"), ...residuals, "linear3")).code).toBe(0);
  const second = await readFile(at("r"));
  expect(second.equals(first)).toBe(false);
  const refused = await run(
    "pack",
    at("model.safetensors"),
    at("n.twire"),
    ...residuals,
    "linear4",
    "--json",
  );
  expect(refused.code).toBe(3);
  expect(json(refused).error).toMatchObject({ code: "SOURCE_MISMATCH" });
  expect((await readFile(at("r"))).equals(second)).toBe(true);
  expect((await readdir(folder)).sort()).toEqual(["m.twire", "model.safetensors", "out.safetensors", "r"]);
});
