import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, symlink, unlink, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { createServer, type TLSSocket } from "node:tls";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { makeModel, makeSparseModel } from "./cli-process.js";

hasAgents();

const MIB = 1024 * 1024;
const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [1000] }]);
const codeOf = ({ error }: Json): string | undefined => error?.code;
const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

/** A publication that was under way when its agent died. */
async function underWay(id: string, request: object): Promise<void> {
  const record = { id, kind: "publish", name: "taken", state: "running", request };
  const sizes = { totalBytes: 0, sourceBytes: 0, wireBytes: 0 };
  const times = { created: Date.now(), expires: Date.now() + 60_000 };
  await writeFile(at("agent", "transfers", `${id}.json`), JSON.stringify({ ...record, ...sizes, ...times }));
}

it("goes on where it was killed between a file's last name and its record, and removes bodies that are not whole", async () => {
  const agent = await AgentProcess.start("agent");
  await small(at("model.safetensors"));
  const bytes = await readFile(at("model.safetensors"));
  await agent.kill();
  await underWay("given-file", { name: "taken", path: "in.safetensors", consume: true });
  await underWay("given-body", { name: "taken", path: "body", body: true });
  for (const id of ["given-file", "given-body"])
    await writeFile(agent.exchange(`.models/${id}.safetensors`), bytes);
  await writeFile(agent.exchange(".models/not-whole.taken.1234.part"), bytes);

  const again = await AgentProcess.start("agent");
  for (const id of ["given-file", "given-body"]) {
    const { json } = await again.ask("GET", `/v1/transfers/${id}?wait=30`);
    expect(json).toMatchObject({ state: "done" });
    expect(Buffer.compare(await readFile((await again.fetch(json.ref)).path), bytes)).toBe(0);
  }
  expect((await readdir(again.exchange(".models"))).filter((name) => name.includes("taken"))).toEqual([]);
});

it("gives a file back where it cannot be recorded that it is published", async () => {
  const agent = await AgentProcess.start("agent");
  await small(agent.exchange("in.safetensors"));
  await rm(at("agent", "models"), { recursive: true });
  await writeFile(at("agent", "models"), "");
  for (const codec of ["none", "float16"]) {
    const failed = await agent.publish("a", "in.safetensors", { consume: true, codec });
    expect([failed.state, codeOf(failed)]).toEqual(["failed", "TARGET_WRITE"]);
    expect(existsSync(agent.exchange("in.safetensors"))).toBe(true);
  }
  expect(await agent.kept()).toEqual([]);
});

it("keeps a body as long as it is being published, and sweeps nothing but models", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const slow = ["--keep", "1s", "--max-bytes-per-second", "8M"];
  const agent = await AgentProcess.start("agent", ["--home", home.url!, ...slow]);
  await makeModel(at("in.safetensors"), [{ name: "w", dtype: "I32", shape: [4 * MIB] }]);
  const notes = agent.exchange("notes.txt");
  const left = agent.exchange("left.safetensors");
  for (const path of [notes, left]) await writeFile(path, "");
  const stream = Readable.from([await readFile(at("in.safetensors"))]);
  const { json } = await agent.ask("PUT", "/v1/models/a?id=the-body-1&expiresSeconds=60", { stream });
  // As often as it is swept, and once more.
  while (existsSync(left)) await soon();
  expect((await agent.ask("GET", `/v1/transfers/${json.id}`)).json.state).toBe("running");
  expect(existsSync(agent.exchange(".models/the-body-1.taken"))).toBe(true);
  expect(existsSync(notes)).toBe(true);
  expect(await agent.over({ status: 202, bytes: Buffer.of(), json })).toMatchObject({ state: "done" });
  expect(await agent.kept()).toEqual([]);
});

it("takes a body that is sent again before the first connection is known to be dead", async () => {
  const agent = await AgentProcess.start("agent");
  await makeModel(at("in.safetensors"), [{ name: "w", dtype: "I32", shape: [MIB] }]);
  const bytes = await readFile(at("in.safetensors"));
  const put = (stream: Readable) =>
    agent.ask("PUT", "/v1/models/a?id=the-same-id", {
      stream,
      headers: { "content-length": String(bytes.length) },
    });
  const [dead, alive] = [new Readable({ read() {} }), new Readable({ read() {} })];
  const parts = async () => (await agent.kept()).length;
  dead.push(bytes.subarray(0, MIB));
  const broken = expect(put(dead)).rejects.toThrow();
  while ((await parts()) < 1) await soon();
  alive.push(bytes.subarray(0, MIB));
  const answer = put(alive);
  while ((await parts()) < 2) await soon();
  dead.destroy(new Error("the connection breaks"));
  await broken;
  while ((await parts()) > 1) await soon();
  alive.push(bytes.subarray(MIB));
  alive.push(null);
  const { ref } = await agent.over(await answer);
  expect(Buffer.compare(await readFile((await agent.fetch(ref)).path), bytes)).toBe(0);
});

it("takes an id for another model only when the first one is gone", async () => {
  const agent = await AgentProcess.start("agent");
  await small(agent.exchange("one.safetensors"));
  await makeModel(agent.exchange("two.safetensors"), [{ name: "w", dtype: "F32", shape: [2000] }]);
  const { ref } = await agent.publish("a", "one.safetensors", { id: "the-same-id" });
  await agent.ask("DELETE", "/v1/transfers/the-same-id");
  const publish = () => agent.publish("a", "two.safetensors", { id: "the-same-id" });
  expect(codeOf(await publish())).toBe("TARGET_EXISTS");
  const { id } = await agent.fetch(ref);
  await agent.ask("DELETE", "/v1/models/a");
  // Freed, and somebody still has its file.
  expect(codeOf(await publish())).toBe("TARGET_EXISTS");
  await agent.ask("DELETE", `/v1/transfers/${id}`);
  expect((await publish()).ref.bytes).toBe(8000);
});

it("follows no links: neither of its own folder, nor in the place of a file that it fetched", async () => {
  await mkdir(at("elsewhere"));
  await writeFile(at("elsewhere", "precious"), "");
  await mkdir(at("linked", "exchange"), { recursive: true });
  await symlink(at("elsewhere"), at("linked", "exchange", ".models"));
  await expect(AgentProcess.start("linked")).rejects.toThrow(/FORBIDDEN.*--exchange/);
  expect(await readdir(at("elsewhere"))).toEqual(["precious"]);

  const agent = await AgentProcess.start("agent");
  await small(agent.exchange("in.safetensors"));
  await writeFile(at("secret"), "secret");
  const { ref } = await agent.publish("a", "in.safetensors");
  const { id, path } = await agent.fetch(ref, { to: "out.safetensors" });
  await unlink(path);
  await symlink(at("secret"), path);
  const { status, json } = await agent.ask("GET", `/v1/fetches/${id}/body`);
  expect([status, codeOf(json)]).toEqual([403, "FORBIDDEN"]);
});

it.runIf(hasOpenssl)("shows its certificate to its home, and to no other host that it sends to", async () => {
  const { ca, server, client } = makeAuthority();
  const files = { "ca.pem": ca, "client.pem": client.cert, "client.key": client.key };
  for (const [name, text] of Object.entries(files)) await writeFile(at(name), text);
  const shown: object[] = [];
  const stranger = createServer({ ...server, ca, requestCert: true, rejectUnauthorized: false });
  stranger.on("secureConnection", (socket: TLSSocket) => {
    shown.push(socket.getPeerCertificate());
    socket.destroy();
  });
  await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
  const url = `wss://127.0.0.1:${(stranger.address() as AddressInfo).port}`;
  const tls = ["--tls-ca", at("ca.pem"), "--tls-cert", at("client.pem"), "--tls-key", at("client.key")];
  try {
    for (const home of ["wss://127.0.0.1:1", url]) {
      const name = `of-${shown.length}`;
      const agent = await AgentProcess.start(name, ["--home", home, "--patience", "0s", ...tls]);
      await small(agent.exchange("in.safetensors"));
      await agent.over(
        await agent.ask("POST", "/v1/sends", { body: { path: "in.safetensors", to: `${url}/` } }),
      );
      await agent.kill();
    }
  } finally {
    stranger.close();
  }
  expect(shown).toMatchObject([{}, { subject: { CN: "client" } }]);
  expect(Object.keys(shown[0]!)).toEqual([]);
});

it("leaves nothing of a transfer that was killed, and is freed before it can go on", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--max-bytes-per-second", "16M"]);
  const args = ["--home", home.url!, "--patience", "30s"];
  const killed = await AgentProcess.start("agent", [...args, "--max-bytes-per-second", "16M"]);
  await makeSparseModel(home.exchange("in.safetensors"), 64 * MIB);
  const { ref } = await home.publish("a", "in.safetensors", { consume: true });
  const places = [{}, { to: "out.safetensors" }];
  for (const [i, place] of places.entries()) {
    await killed.ask("POST", "/v1/fetches", { body: { id: `fetch-of-${i}`, ref, ...place } });
  }
  while ((await killed.seen()).filter((name) => name.endsWith(".lock")).length < 2) await soon();
  await killed.kill();
  await home.kill();
  const agent = await AgentProcess.start("agent", args);
  for (const i of places.keys()) await agent.ask("DELETE", `/v1/transfers/fetch-of-${i}`);
  expect(await agent.seen()).toEqual([]);
});

it("leaves what others write in the place of a fetch that came to nothing", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--max-bytes-per-second", "32M"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!]);
  await makeSparseModel(home.exchange("in.safetensors"), 32 * MIB);
  const { ref } = await home.publish("a", "in.safetensors", { consume: true });
  const fetch = (to: string) => agent.ask("POST", "/v1/fetches", { body: { ref, to } });
  const first = await fetch("out.safetensors");
  while ((await agent.seen()).length === 0) await soon();
  const second = await agent.over(await fetch("out.safetensors"));
  expect([second.state, second.error.code]).toEqual(["failed", "TARGET_BUSY"]);
  expect(await agent.over(first)).toMatchObject({ state: "done" });

  const mine = agent.exchange("mine.safetensors.part");
  await writeFile(mine, "a program's");
  expect((await agent.over(await fetch("mine.safetensors"))).state).toBe("failed");
  expect(await readFile(mine, "utf8")).toBe("a program's");
});
