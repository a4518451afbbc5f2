import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { makeModel, makeSparseModel } from "./cli-process.js";

hasAgents();

const MIB = 1024 * 1024;

/** Slow enough to be killed in the middle of it. */
const SLOW = ["--max-bytes-per-second", "24M"];

/** A transfer, when more than so much of it has arrived. */
async function reached(agent: AgentProcess, id: string, bytes: number): Promise<Json> {
  for (;;) {
    const { json } = await agent.ask("GET", `/v1/transfers/${id}`);
    if (json.state !== "running" || json.sourceBytes >= bytes) return json;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

it("goes on with a fetch when it was killed in the middle of it", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", ...SLOW]);
  await makeSparseModel(home.exchange("in.safetensors"), 48 * MIB);
  const { ref } = await home.publish("big", "in.safetensors", { consume: true });
  const args = ["--home", home.url!];
  const killed = await AgentProcess.start("b", args);
  const { json } = await killed.ask("POST", "/v1/fetches", { body: { id: "fetch-of-b", ref } });
  expect(json).toMatchObject({ id: "fetch-of-b", state: "running" });
  expect((await reached(killed, "fetch-of-b", 20 * MIB)).state).toBe("running");
  await killed.kill();
  const again = await AgentProcess.start("b", args);
  // The program does not know what became of its request, and makes it again.
  const same = await again.ask("POST", "/v1/fetches", { body: { id: "fetch-of-b", ref } });
  const fetched = await again.over(same);
  expect(fetched).toMatchObject({ id: "fetch-of-b", state: "done", sourceBytes: 48 * MIB });
  // What had arrived did not travel twice.
  expect(fetched.wireBytes).toBeLessThan(40 * MIB);
  await again.ask("DELETE", "/v1/transfers/fetch-of-b");
  expect((await readdir(again.exchange("."))).filter((name) => !name.startsWith("."))).toEqual([]);
});

it("goes on with an upload when it, and then its home, was killed in the middle of it", async () => {
  const port = String(20_000 + Math.floor(Math.random() * 20_000));
  const listen = ["--listen", `127.0.0.1:${port}`];
  const home = await AgentProcess.start("home", listen);
  const args = ["--home", home.url!, ...SLOW];
  const killed = await AgentProcess.start("a", args);
  await makeSparseModel(killed.exchange("in.safetensors"), 64 * MIB);
  const body = { id: "upload-of-a", name: "update", path: "in.safetensors", consume: true };
  await killed.ask("POST", "/v1/models", { body });
  await reached(killed, "upload-of-a", 20 * MIB);
  await killed.kill();
  const again = await AgentProcess.start("a", args);
  const halfway = await reached(again, "upload-of-a", 36 * MIB);
  expect(halfway.state).toBe("running");
  await home.kill();
  const anew = await AgentProcess.start("home", listen);
  const published = await again.over(await again.ask("POST", "/v1/models", { body }));
  expect(published).toMatchObject({ state: "done", sourceBytes: 64 * MIB });
  expect(existsSync(again.exchange("in.safetensors"))).toBe(false);
  expect(await anew.fetch(published.ref)).toMatchObject({ state: "done", sourceBytes: 64 * MIB });
});

it("publishes what it had taken over when it was killed, and keeps what is published", async () => {
  const agent = await AgentProcess.start("agent");
  await makeModel(agent.exchange("in.safetensors"), [{ name: "w", dtype: "F32", shape: [50_000] }]);
  const bytes = await readFile(agent.exchange("in.safetensors"));
  const { ref } = await agent.publish("kept", "in.safetensors");
  await agent.kill();
  // As it is left where the kill came between the move and the record.
  const record = { id: "taken-over", kind: "publish", name: "taken", state: "running" };
  const request = { name: "taken", path: "in.safetensors", consume: true };
  const times = { created: Date.now(), expires: Date.now() + 60_000 };
  const sizes = { totalBytes: 0, sourceBytes: 0, wireBytes: 0 };
  const text = JSON.stringify({ ...record, request, ...times, ...sizes });
  await writeFile(at("agent", "transfers", "taken-over.json"), text);
  await writeFile(agent.exchange(".models/taken-over.taken"), bytes);
  await writeFile(agent.exchange(".models/nobodys.safetensors"), bytes);

  const again = await AgentProcess.start("agent");
  const taken = await again.ask("GET", "/v1/transfers/taken-over?wait=30");
  for (const each of [ref, taken.json.ref]) {
    const { path } = await again.fetch(each);
    expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
  }
  expect(await readdir(again.exchange(".models"))).not.toContain("nobodys.safetensors");
});

it("leaves its directory to one agent at a time, and takes over a dead one's socket", async () => {
  const agent = await AgentProcess.start("agent");
  await expect(AgentProcess.start("agent")).rejects.toThrow(/TARGET_BUSY/);
  await agent.kill();
  expect(existsSync(at("agent", "agent.sock"))).toBe(true);
  const again = await AgentProcess.start("agent");
  expect((await again.status()).api).toBe(1);
  again.process.child.kill("SIGTERM");
  expect((await again.process.ended).code).toBe(0);
  expect(existsSync(at("agent", "agent.sock"))).toBe(false);
});
