import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { webSocketChannel } from "../src/index.js";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { makeModel, makeSparseModel } from "./cli-process.js";
import { ScriptedPeer } from "./scripted-peer.js";

hasAgents();

const MIB = 1024 * 1024;
const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [1000] }]);
const codeOf = ({ error }: Json): string | undefined => error?.code;

it("shows its home a token, and hears at once where that is refused, or gives no right", async () => {
  const tokens = {
    ada: { token: "ada-1", publish: ["ada/*"], fetch: true },
    bob: { token: "bob-1", publish: ["bob/*"], fetch: ["bob/*"] },
  };
  await writeFile(at("tokens.json"), JSON.stringify(tokens));
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--tokens", at("tokens.json")]);
  const of = async (name: string, token: string): Promise<AgentProcess> => {
    await writeFile(at(`${name}.token`), token);
    const agent = await AgentProcess.start(name, [
      ...["--home", home.url!, "--token-file", at(`${name}.token`)],
    ]);
    await small(agent.exchange("in.safetensors"));
    return agent;
  };
  const [ada, bob, eve] = await Promise.all([of("ada", "ada-1"), of("bob", "bob-1"), of("eve", "eve-1")]);
  const { ref } = await ada.publish("ada/update", "in.safetensors");
  expect((await ada.fetch(ref)).state).toBe("done");
  expect(codeOf(await bob.fetch(ref))).toBe("FORBIDDEN");
  expect(codeOf(await bob.publish("ada/update", "in.safetensors"))).toBe("FORBIDDEN");
  expect(codeOf(await eve.fetch(ref))).toBe("UNAUTHORIZED");
  const free = (agent: AgentProcess) => agent.ask("DELETE", `/v1/models/ada/update?transfer=${ref.transfer}`);
  expect((await free(bob)).status).toBe(403);
  expect((await free(eve)).status).toBe(401);
  expect((await free(ada)).json).toEqual({ freed: 1 });
  expect(codeOf(await ada.fetch(ref))).toBe("NOT_FOUND");
});

it("refuses what is of another version, or no request at all", async () => {
  const agent = await AgentProcess.start("agent");
  const { status, json } = await agent.ask("GET", "/v2/status");
  expect([status, codeOf(json)]).toEqual([501, "VERSION_UNSUPPORTED"]);
  const asked = async (method: string, path: string, body?: unknown): Promise<unknown[]> => {
    const answer = await agent.ask(method, path, { body });
    return [answer.status, codeOf(answer.json)];
  };
  await small(agent.exchange("in.safetensors"));
  const { ref } = await agent.publish("a", "in.safetensors");
  const fetching = (changed: object) => asked("POST", "/v1/fetches", { ref: { ...ref, ...changed } });
  expect(await fetching({ tensorwire: 2 })).toEqual([501, "VERSION_UNSUPPORTED"]);
  expect(await fetching({ digest: "no" })).toEqual([400, "INVALID_ARGUMENT"]);
  expect(await fetching({ name: "../a" })).toEqual([400, "INVALID_ARGUMENT"]);
  expect(codeOf(await agent.fetch({ ...ref, digest: "0".repeat(16) }))).toBe("DIGEST_MISMATCH");
  expect(codeOf(await agent.fetch({ ...ref, name: "b" }))).toBe("NOT_FOUND");
  const model = { name: "a", path: "in.safetensors" };
  for (const [wrong, code] of [
    [{ extra: 1 }, "INVALID_ARGUMENT"],
    [{ name: ".hidden" }, "INVALID_ARGUMENT"],
    [{ codec: "zip" }, "CODEC_UNSUPPORTED"],
    [{ codec: "normfloat4:block" }, "INVALID_ARGUMENT"],
    [{ codec: "none", policy: {} }, "INVALID_ARGUMENT"],
    [{ policy: { rules: 1 } }, "INVALID_ARGUMENT"],
    [{ id: "../../etc" }, "INVALID_ARGUMENT"],
    [{ expiresSeconds: 1e9 }, "INVALID_ARGUMENT"],
  ] as const) {
    expect(await asked("POST", "/v1/models", { ...model, ...wrong }), JSON.stringify(wrong)).toEqual([
      400,
      code,
    ]);
  }
  expect(await asked("GET", "/v1/nothing")).toEqual([404, "NOT_FOUND"]);
  expect(await asked("GET", "/v1/transfers/nobodys")).toEqual([404, "NOT_FOUND"]);
  expect(await asked("POST", "/v1/models", "x".repeat(2 * MIB))).toEqual([413, "LIMIT_EXCEEDED"]);
  const text = await agent.ask("POST", "/v1/models", { headers: { "content-type": "text/plain" } });
  expect(text.status).toBe(400);
  // An id stands for one request.
  const body = { ...model, id: "the-same-id" };
  expect((await asked("POST", "/v1/models", body))[0]).toBe(202);
  expect((await asked("POST", "/v1/models", body))[0]).toBe(202);
  expect(await asked("POST", "/v1/models", { ...body, codec: "float16" })).toEqual([409, "TARGET_EXISTS"]);
  // However its codec is written.
  for (const codec of ["normfloat4:block=128", { name: "normfloat4", block: 128 }]) {
    expect((await asked("POST", "/v1/models", { ...model, id: "another-id", codec }))[0]).toBe(202);
  }
});

it("says that its home is of another version", async () => {
  const strangers = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  strangers.on("connection", (socket) => {
    void new ScriptedPeer(webSocketChannel(socket)).hello("any", { versions: [99] });
  });
  await once(strangers, "listening");
  const url = `ws://127.0.0.1:${(strangers.address() as AddressInfo).port}`;
  try {
    const agent = await AgentProcess.start("agent", ["--home", url]);
    await small(agent.exchange("in.safetensors"));
    expect(codeOf(await agent.publish("a", "in.safetensors"))).toBe("VERSION_UNSUPPORTED");
  } finally {
    strangers.close();
  }
});

it("keeps to the directories that it may read and write", async () => {
  await mkdir(at("allowed"));
  const agent = await AgentProcess.start("agent", ["--allow", at("allowed")]);
  for (const path of [at("secret.safetensors"), at("allowed", "in.safetensors")]) await small(path);
  await symlink(at("secret.safetensors"), agent.exchange("link.safetensors"));
  await symlink(at(), agent.exchange("folder"));
  const publishing = async (path: string) => codeOf(await agent.publish("a", path));
  expect(await publishing("../../secret.safetensors")).toBe("FORBIDDEN");
  expect(await publishing(at("secret.safetensors"))).toBe("FORBIDDEN");
  expect(await publishing("folder/secret.safetensors")).toBe("FORBIDDEN");
  expect(await publishing("link.safetensors")).toBe("FORBIDDEN");
  expect(await publishing(".models/x.safetensors")).toBe("FORBIDDEN");
  expect(await publishing("not-there.safetensors")).toBe("SOURCE_READ");
  expect(await publishing("in.txt")).toBe("INVALID_ARGUMENT");
  const { ref } = await agent.publish("a", at("allowed", "in.safetensors"));
  for (const to of [
    "../x.safetensors",
    "folder/x.safetensors",
    at("x.safetensors"),
    ".models/x.safetensors",
  ]) {
    expect(codeOf(await agent.fetch(ref, { to })), to).toBe("FORBIDDEN");
  }
  expect((await agent.fetch(ref, { to: at("allowed", "out.safetensors") })).state).toBe("done");
  const again = await agent.ask("POST", "/v1/fetches", {
    body: { ref, to: at("allowed", "out.safetensors") },
  });
  expect([again.status, codeOf(again.json)]).toEqual([409, "TARGET_EXISTS"]);
});

it("gives back a file that it could not publish", async () => {
  const agent = await AgentProcess.start("agent");
  await writeFile(agent.exchange("in.safetensors"), "no model");
  const failed = await agent.publish("a", "in.safetensors", { consume: true });
  expect([failed.state, codeOf(failed)]).toEqual(["failed", "SOURCE_INVALID"]);
  expect(existsSync(agent.exchange("in.safetensors"))).toBe(true);
  expect(await agent.kept()).toEqual([]);
});

it("takes nothing that there is no room for", async () => {
  const refused = AgentProcess.start("none", ["--reserve", "8000T"]);
  await expect(refused).rejects.toThrow(/TARGET_FULL.*--reserve/);
  const agent = await AgentProcess.start("agent");
  await makeSparseModel(agent.exchange("in.safetensors"), MIB);
  // As far as the file system tells, it is larger than the disk.
  await truncate(agent.exchange("in.safetensors"), 2 ** 43);
  expect(codeOf(await agent.publish("a", "in.safetensors"))).toBe("TARGET_FULL");
  const stream = Readable.from(["x"]);
  const put = await agent.ask("PUT", "/v1/models/a", {
    stream,
    headers: { "content-length": String(2 ** 50) },
  });
  expect([put.status, codeOf(put.json)]).toEqual([507, "TARGET_FULL"]);
});

it("keeps nothing of a body that did not come whole, and of a transfer that is cancelled", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--max-bytes-per-second", "8M"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!]);
  const broken = new Readable({ read() {} });
  broken.push(Buffer.alloc(MIB));
  const put = home.ask("PUT", "/v1/models/broken", {
    stream: broken,
    headers: { "content-length": String(2 * MIB) },
  });
  while ((await home.kept()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  broken.destroy(new Error("the program dies"));
  await expect(put).rejects.toThrow();
  while ((await home.kept()).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));

  await makeSparseModel(home.exchange("in.safetensors"), 64 * MIB);
  const { ref } = await home.publish("a", "in.safetensors", { consume: true });
  const { json } = await agent.ask("POST", "/v1/fetches", { body: { ref } });
  while ((await agent.seen()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const { json: cancelled } = await agent.ask("DELETE", `/v1/transfers/${json.id}`);
  expect(cancelled).toMatchObject({ state: "cancelled", error: { code: "ABORTED" } });
  expect(await agent.seen()).toEqual([]);
  expect((await agent.ask("GET", `/v1/transfers/${json.id}`)).status).toBe(404);
});

it("says that a reference has expired, and sweeps what nobody has freed", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--keep", "1s"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!, "--patience", "1s"]);
  await small(agent.exchange("in.safetensors"));
  await small(home.exchange("left.safetensors"));
  const { ref } = await agent.publish("a", "in.safetensors", { expiresSeconds: 1 });
  const { path } = await home.fetch(ref);
  const files = () => [path, home.exchange("left.safetensors")].filter((file) => existsSync(file));
  expect(files()).toHaveLength(2);
  while (files().length > 0) await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await home.kept()).toEqual([]);
  for (const each of [agent, home]) {
    const { error, state } = await each.fetch(ref);
    expect([state, error.code]).toEqual(["failed", "REFERENCE_EXPIRED"]);
  }
  await home.kill();
  expect(codeOf(await agent.fetch(ref))).toBe("CHANNEL_OPEN");
});
