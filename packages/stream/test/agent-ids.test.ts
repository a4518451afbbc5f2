import { readdir, readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { TransferList } from "../src/agent/transfer-list.js";
import { AgentProcess, at, hasAgents } from "./agent-fixture.js";
import { makeModel, makeSparseModel } from "./cli-process.js";

hasAgents();

const MIB = 1024 * 1024;

it("leaves nothing of a transfer that is freed before it has begun", async () => {
  const list = await TransferList.open(at("transfers"), () => {});
  const deeds: string[] = [];
  const deed = {
    move: async () => {
      deeds.push("moved");
      return {};
    },
    undo: async () => void deeds.push("undone"),
  };
  const asked = { id: "freed-early", kind: "publish", name: "a", request: {}, lifetimeMs: 60_000 } as const;
  const begun = list.begin(asked, deed);
  const record = await list.remove(list.get("freed-early"));
  expect(record.state).toBe("cancelled");
  await (await begun).over;
  expect(deeds).toEqual(["undone"]);
  expect(await readdir(at("transfers"))).toEqual([]);

  // Its id is another one's only when nothing of it is left.
  list.forgotten = async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    deeds.push("forgotten");
  };
  const over = await list.begin(asked, deed);
  await over.over;
  const removed = list.remove(over);
  while (list.find("freed-early")) await Promise.resolve();
  const next = await list.begin(asked, deed);
  await removed;
  await next.over;
  expect(deeds.slice(1)).toEqual(["moved", "forgotten", "moved"]);
  expect(await readdir(at("transfers"))).toEqual(["freed-early.json"]);
});

it("leaves nothing where transfers are freed at any moment", async () => {
  const agent = await AgentProcess.start("agent");
  await makeModel(agent.exchange("in.safetensors"), [{ name: "w", dtype: "F32", shape: [1000] }]);
  const bytes = await readFile(agent.exchange("in.safetensors"));
  const { ref } = await agent.publish("kept", "in.safetensors");
  const asking = (i: number, id: string) => {
    if (i % 3 === 0)
      return agent.ask("PUT", `/v1/models/a?id=${id}&codec=float16`, { stream: Readable.from([bytes]) });
    const [path, body] =
      i % 3 === 1
        ? ["/v1/models", { id, name: "a", path: "in.safetensors", codec: "float16" }]
        : ["/v1/fetches", { id, ref, outputDtype: "BF16" }];
    return agent.ask("POST", path as string, { body });
  };
  const once = async (i: number): Promise<void> => {
    const id = `freed-early-${i}`;
    const asked = asking(i, id);
    const freed = async (): Promise<boolean> =>
      (await agent.ask("DELETE", `/v1/transfers/${id}`)).status === 200;
    // As soon as there is such a transfer.
    for (let tries = 0; tries < 500 && !(await freed()); tries++);
    await asked;
  };
  for (let i = 0; i < 72; i += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => once(i + k)));
  await agent.ask("DELETE", "/v1/models/a");
  await agent.ask("DELETE", "/v1/models/kept");
  const [{ id }] = (await agent.status()).transfers;
  await agent.ask("DELETE", `/v1/transfers/${id}`);
  expect(await agent.status()).toMatchObject({ models: [], transfers: [] });
  expect(await readdir(at("agent", "transfers"))).toEqual([]);
  expect(await readdir(at("agent", "models"))).toEqual([]);
  expect(await agent.kept()).toEqual([]);
  expect(await agent.seen()).toEqual(["in.safetensors"]);
});

it("takes a request that is made again for the same one, whatever its defaults are by then", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const dial = ["--home", home.url!];
  // Slow enough to be killed in the middle of it.
  const slow = ["--codec", "blockwise8", "--min-elements", "0", "--chunk", "1M"];
  const first = await AgentProcess.start("agent", [...dial, ...slow, "--max-bytes-per-second", "4M"]);
  await makeSparseModel(first.exchange("in.safetensors"), 64 * MIB);
  const body = { id: "the-same-id", name: "a", path: "in.safetensors" };
  await first.ask("POST", "/v1/models", { body });
  for (let bytes = 0; bytes < 16 * MIB; ) {
    const { json } = await first.ask("GET", "/v1/transfers/the-same-id");
    expect(json.state).toBe("running");
    bytes = json.sourceBytes;
  }
  await first.kill();
  const again = await AgentProcess.start("agent", [...dial, "--codec", "none", "--window", "8M"]);
  const answer = await again.ask("POST", "/v1/models", { body });
  expect([answer.status, answer.json.error?.code]).toEqual([202, undefined]);
  const done = await again.over(answer);
  expect(done).toMatchObject({ state: "done", sourceBytes: 64 * MIB });
  // What had arrived, encoded as it was then, did not travel twice.
  expect(done.wireBytes).toBeLessThan(13 * MIB);
  // And when it is over.
  expect((await again.ask("POST", "/v1/models", { body })).status).toBe(202);
  const other = await again.ask("POST", "/v1/models", { body: { ...body, codec: "none" } });
  expect(other.status).toBe(409);
});

it("frees nothing by a request that it does not understand", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!]);
  await makeModel(agent.exchange("in.safetensors"), [{ name: "w", dtype: "F32", shape: [1000] }]);
  for (const id of ["publish-1", "publish-2"]) await agent.publish("a/b", "in.safetensors", { id });
  for (const query of [
    "tranfser=publish-1",
    "transfer=publish-1&transfer=publish-2",
    "transfer=../publish-1",
  ]) {
    const { status, json } = await agent.ask("DELETE", `/v1/models/a/b?${query}`);
    expect([status, json.error?.code], query).toEqual([400, "INVALID_ARGUMENT"]);
  }
  expect((await agent.ask("GET", "/v1/transfers/publish-1?wiat=1")).status).toBe(400);
  expect((await home.status()).models).toHaveLength(2);
});

it("takes no file for a fetch's that is a program's", async () => {
  const agent = await AgentProcess.start("agent");
  await makeModel(agent.exchange("my-weights.safetensors"), [{ name: "w", dtype: "F32", shape: [1000] }]);
  const { ref } = await agent.publish("a", "my-weights.safetensors", { codec: "float16" });
  for (const each of [ref, { ...ref, name: "not-there" }]) {
    const body = { id: "my-weights", ref: each };
    const { status, json } = await agent.ask("POST", "/v1/fetches", { body });
    expect([status, json.error?.code]).toEqual([409, "TARGET_EXISTS"]);
  }
  expect(await agent.seen()).toEqual(["my-weights.safetensors"]);
  const { json } = await agent.ask("POST", "/v1/fetches", { body: { ref, to: "not-there/x.safetensors" } });
  expect([json.error.code, json.error.message]).toEqual(["TARGET_WRITE", expect.stringContaining("create")]);
});
