import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents } from "./agent-fixture.js";
import { makeModel } from "./cli-process.js";

hasAgents();

const TENSORS = [
  { name: "w", dtype: "F32", shape: [300, 1000] },
  { name: "steps", dtype: "I64", shape: [10_000] },
  { name: "mask", dtype: "BOOL", shape: [5000] },
] as const;

it("gives the file that it was given to whoever fetches it on the same machine", async () => {
  const agent = await AgentProcess.start("agent");
  expect((await stat(at("agent", "agent.sock"))).mode & 0o777).toBe(0o600);
  await makeModel(agent.exchange("in.safetensors"), TENSORS);
  const bytes = await readFile(agent.exchange("in.safetensors"));
  const published = await agent.publish("round-1/a", "in.safetensors", { consume: true });
  expect(published).toMatchObject({
    state: "done",
    kind: "publish",
    name: "round-1/a",
    sourceBytes: 1_285_000,
  });
  expect(published.ref).toMatchObject({
    tensorwire: 1,
    name: "round-1/a",
    transfer: published.id,
    bytes: 1_285_000,
  });
  expect(existsSync(agent.exchange("in.safetensors"))).toBe(false);

  const [one, two] = [await agent.fetch(published.ref), await agent.fetch(published.ref)];
  expect(one.path).toBe(two.path);
  expect((await stat(one.path)).mode & 0o777).toBe(0o400);
  expect(Buffer.compare(await readFile(one.path), bytes)).toBe(0);

  // Freed, it stays for who has it.
  expect((await agent.ask("DELETE", "/v1/models/round-1/a")).json).toEqual({ freed: 1 });
  expect((await agent.fetch(published.ref)).error.code).toBe("NOT_FOUND");
  await agent.ask("DELETE", `/v1/transfers/${one.id}`);
  expect(existsSync(one.path)).toBe(true);
  await agent.ask("DELETE", `/v1/transfers/${two.id}`);
  expect(existsSync(one.path)).toBe(false);
});

it("moves models between agents that have a home", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const [a, b] = await Promise.all(["a", "b"].map((name) => AgentProcess.start(name, ["--home", home.url!])));
  const tensors = await makeModel(a!.exchange("in.safetensors"), TENSORS);
  const bytes = await readFile(a!.exchange("in.safetensors"));
  for (const codec of ["none", "normfloat4"]) {
    const { ref, ...published } = await a!.publish("update", "in.safetensors", { codec });
    expect(published).toMatchObject({ state: "done" });
    for (const agent of [b!, home]) {
      const fetched = await agent.fetch(ref);
      expect(fetched).toMatchObject({ state: "done", sourceBytes: 1_285_000 });
      const got = await readFile(fetched.path);
      if (codec === "none") expect(Buffer.compare(got, bytes)).toBe(0);
      // Whatever no codec is for is exact.
      else expect(got.subarray(-5000)).toEqual(Buffer.from(tensors.get("mask")!));
      const body = await agent.ask("GET", `/v1/fetches/${fetched.id}/body`);
      expect(Buffer.compare(body.bytes, got)).toBe(0);
      await agent.ask("DELETE", `/v1/transfers/${fetched.id}`);
    }
  }
  // What is encoded is kept so.
  const { models, version } = await home.status();
  expect(version).toMatch(/^\d+\.\d+\.\d+/);
  expect(models.map(({ storedBytes }: { storedBytes: number }) => storedBytes)).toEqual([
    expect.any(Number),
    expect.any(Number),
  ]);
  expect(models[1].storedBytes).toBeLessThan(models[0].storedBytes / 2);
  expect((await a!.ask("DELETE", "/v1/models/update")).json).toEqual({ freed: 2 });
  expect((await home.status()).models).toEqual([]);
  expect(await home.kept()).toEqual([]);
});

it("takes a model as a body, and converts what it fetches", async () => {
  const agent = await AgentProcess.start("agent", ["--local", "127.0.0.1:0"]);
  await makeModel(at("in.safetensors"), TENSORS);
  const refused = await agent.ask("GET", "/v1/status");
  expect([refused.status, refused.json.error.code]).toEqual([401, "UNAUTHORIZED"]);
  agent.token = (await readFile(at("agent", "token"), "utf8")).trim();
  const bytes = await readFile(at("in.safetensors"));
  const put = { stream: Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]) };
  const answer = await agent.ask("PUT", "/v1/models/a%20b/c?codec=float16&id=my-transfer-1", put);
  const { ref } = await agent.over(answer);
  expect(ref).toMatchObject({ name: "a b/c", transfer: "my-transfer-1" });
  const fetched = await agent.fetch(ref, { outputDtype: "BF16", to: "sub.safetensors" });
  expect(fetched.path).toBe(agent.exchange("sub.safetensors"));
  expect((await stat(fetched.path)).size).toBeLessThan(bytes.length - 500_000);
});

it("says by what its exchange directory is known, and says otherwise when it was started anew", async () => {
  const agent = await AgentProcess.start("a", []);
  const { identity } = (await agent.status()).exchange;
  const read = async () => JSON.parse(await readFile(agent.exchange(".models/.identity"), "utf8"));
  expect(await read()).toBe(identity);
  await agent.kill();
  const again = await AgentProcess.start("a", []);
  expect(await read()).toBe((await again.status()).exchange.identity);
  expect(await read()).not.toBe(identity);
});
