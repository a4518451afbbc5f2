import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CliProcess, makeModel, run } from "./cli-process.js";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "tensorwire-cli-memory-"));
  await makeModel(join(dir, "m.safetensors"), [{ name: "w", dtype: "F32", shape: [64, 4096] }]);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const tooSmall = expect.stringMatching(/LIMIT_EXCEEDED.* all transfers together may take 65536/s);

async function serving(...flags: string[]): Promise<{ server: CliProcess; url: string }> {
  const server = new CliProcess(["serve", dir, "--listen", "127.0.0.1:0", "--quiet", ...flags]);
  const url = await server.url();
  return { server, url: `${url}m.safetensors` };
}

test("--memory bounds the buffers of a sender, a receiver and a server", async () => {
  const model = join(dir, "m.safetensors");
  const whole = await serving();
  const out = join(dir, "out.safetensors");
  const little = await run("receive", whole.url, "--out", out, "--memory", "64KiB", "--retry", "0");
  expect([little.code, little.stderr]).toEqual([7, tooSmall]);
  const enough = await run("receive", whole.url, "--out", out, "--memory", "8MiB");
  expect([enough.code, enough.stderr]).toEqual([0, expect.anything()]);
  const small = await serving("--memory", "64KiB");
  const served = await run("receive", small.url, "--out", join(dir, "none.safetensors"), "--retry", "0");
  expect([served.code, served.stderr]).toEqual([8, tooSmall]);
  const sent = await run("send", model, "-", "--memory", "64KiB");
  expect([sent.code, sent.stderr]).toEqual([7, tooSmall]);
  for (const { server } of [whole, small]) {
    server.child.kill("SIGTERM");
    await server.ended;
  }
});

test("--memory is a size", async () => {
  const { code, stderr } = await run("send", "m.safetensors", "m.twire", "--memory", "lots");
  expect([code, stderr]).toEqual([2, expect.stringContaining("--memory")]);
});
