import { writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { makeModel, makeSparseModel } from "./cli-process.js";

hasAgents();

const MIB = 1024 * 1024;
const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [1000] }]);
const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

const TOKENS = {
  ada: { token: "ada-1", publish: true, fetch: true },
  bob: { token: "bob-1", publish: true, fetch: true },
  eve: { token: "eve-1", fetch: true },
  server: { token: "server-1", fetch: true, free: ["round-*/ada/*"] },
};

it("frees at its home what it has published, and nothing of others without a right to that", async () => {
  await writeFile(at("tokens.json"), JSON.stringify(TOKENS));
  const port = String(20_000 + Math.floor(Math.random() * 20_000));
  const listen = ["--listen", `127.0.0.1:${port}`, "--tokens", at("tokens.json")];
  const before = await AgentProcess.start("home", listen);
  const of = async (name: keyof typeof TOKENS): Promise<AgentProcess> => {
    await writeFile(at(`${name}.token`), TOKENS[name].token);
    const agent = await AgentProcess.start(name, [
      ...["--home", before.url!, "--token-file", at(`${name}.token`), "--patience", "0s"],
    ]);
    await small(agent.exchange("in.safetensors"));
    return agent;
  };
  const [ada, bob, eve, server] = await Promise.all([of("ada"), of("bob"), of("eve"), of("server")]);
  const refs: Json[] = [];
  for (const round of [1, 2]) refs.push((await ada.publish(`round-${round}/ada`, "in.safetensors")).ref);
  await small(before.exchange("in.safetensors"));
  const { ref: own } = await before.publish("round-1/ada", "in.safetensors", { codec: "float16" });

  // Whose it is outlasts the home's process.
  await before.kill();
  const home = await AgentProcess.start("home", listen);
  const free = async (agent: AgentProcess, { name, transfer }: Json): Promise<unknown> => {
    const { status, json } = await agent.ask("DELETE", `/v1/models/${name}?transfer=${transfer}`);
    return status === 200 ? json.freed : json.error.code;
  };
  for (const ref of [refs[0]!, own]) {
    // They have the reference: that is enough to fetch it.
    for (const agent of [bob, eve]) expect((await agent.fetch(ref)).state).toBe("done");
    for (const agent of [bob, eve]) expect(await free(agent, ref)).toBe("FORBIDDEN");
  }
  expect(await free(ada, own)).toBe("FORBIDDEN");
  // Nor does he pass for her who publishes by her transfer's id.
  await bob.ask("POST", "/v1/models", {
    body: { id: refs[0]!.transfer, name: refs[0]!.name, path: "in.safetensors" },
  });
  expect((await bob.over({ json: { id: refs[0]!.transfer } } as never)).error.code).toBe("FORBIDDEN");
  expect((await home.status()).models).toHaveLength(3);

  expect(await free(ada, refs[0]!)).toBe(1);
  expect(await free(ada, refs[0]!)).toBe(0);
  // Whoever collects results has the right to free them.
  expect(await free(server, refs[1]!)).toBe(1);
  expect(await free(server, own)).toBe(1);
  expect(await free(server, { name: "round-1/bob", transfer: "nobodys-id" })).toBe("FORBIDDEN");
  expect((await home.status()).models).toEqual([]);
});

it("takes back at its home what came to nothing", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const slow = ["--home", home.url!, "--max-bytes-per-second", "8M"];
  const agent = await AgentProcess.start("agent", slow);
  await makeSparseModel(agent.exchange("in.safetensors"), 32 * MIB);
  const body = { id: "cancelled-1", name: "a", path: "in.safetensors", consume: true };
  await agent.ask("POST", "/v1/models", { body });
  while ((await home.kept()).length === 0) await soon();
  await agent.ask("DELETE", "/v1/transfers/cancelled-1");
  expect(await agent.kept()).toEqual([]);
  expect(await agent.seen()).toEqual(["in.safetensors"]);
  while ((await home.kept()).length > 0) await soon();

  // It is there whole, and the agent has died before it could say so; the program has no use for it any more.
  await small(agent.exchange("in.safetensors"));
  const { ref } = await agent.publish("a", "in.safetensors", { id: "cancelled-2" });
  await agent.kill();
  const record = { id: "cancelled-2", kind: "publish", name: "a", state: "running" };
  const request = { name: "a", path: "in.safetensors" };
  const times = { created: Date.now(), expires: Date.now() + 60_000 };
  const sizes = { totalBytes: 0, sourceBytes: 0, wireBytes: 0 };
  await makeSparseModel(agent.exchange("in.safetensors"), 32 * MIB);
  const text = JSON.stringify({ ...record, request, ...times, ...sizes });
  await writeFile(at("agent", "transfers", "cancelled-2.json"), text);
  const again = await AgentProcess.start("agent", slow);
  expect((await home.status()).models).toMatchObject([{ ref: { transfer: ref.transfer } }]);
  await again.ask("DELETE", "/v1/transfers/cancelled-2");
  expect((await home.status()).models).toEqual([]);
});

it("frees what is on its way to its home, and no other's", async () => {
  await writeFile(at("tokens.json"), JSON.stringify(TOKENS));
  const listen = ["--listen", "127.0.0.1:0", "--tokens", at("tokens.json")];
  const home = await AgentProcess.start("home", listen);
  const dial = async (name: keyof typeof TOKENS) => {
    await writeFile(at(`${name}.token`), TOKENS[name].token);
    return ["--home", home.url!, "--token-file", at(`${name}.token`), "--patience", "0s"];
  };
  const ada = await AgentProcess.start("ada", [...(await dial("ada")), "--max-bytes-per-second", "8M"]);
  const bob = await AgentProcess.start("bob", await dial("bob"));
  await makeSparseModel(ada.exchange("in.safetensors"), 4 * MIB);
  for (const [i, codec] of ["none", "float16", "none"].entries()) {
    const id = `under-way-${i}`;
    const body = { id, name: "a", path: "in.safetensors", codec };
    const answer = await ada.ask("POST", "/v1/models", { body });
    while ((await home.kept()).length === 0) await soon();
    const [by, state] = i === 2 ? [bob, "done"] : [ada, "failed"];
    await by.ask("DELETE", `/v1/models/a?transfer=${id}`);
    expect((await ada.over(answer)).state).toBe(state);
    if (i < 2) while ((await home.kept()).length > 0) await soon();
  }
  expect((await home.status()).models).toMatchObject([{ ref: { transfer: "under-way-2" } }]);
});
