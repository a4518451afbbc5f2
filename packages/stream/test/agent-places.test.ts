import { mkdir, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { MAX_MODELS, MAX_OWNER_MODELS } from "../src/agent/model-store.js";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { makeModel, makeSparseModel } from "./cli-process.js";

hasAgents();

const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [1000] }]);
const codeOf = ({ error }: Json): string | undefined => error?.peerCode ?? error?.code;

/** Models that have been published at a home before it was started. */
async function published(name: string, count: number, owner?: string): Promise<void> {
  await mkdir(at("home", "models"), { recursive: true });
  const record = { name, owner, file: "one-of-them.safetensors", digest: "0".repeat(16), bytes: 1 };
  const form = { storedBytes: 1, chunkBytes: 4194304, integrity: "xxh64" };
  const times = { created: Date.now(), expires: Date.now() + 600_000 };
  for (let i = 0; i < count; i++) {
    const id = `${name}-${String(i).padStart(8, "0")}`;
    await writeFile(at("home", "models", `${id}.json`), JSON.stringify({ id, ...record, ...form, ...times }));
  }
}

it("takes no more models than it keeps, in all and of one that uploads", async () => {
  const everything = { publish: true, fetch: true };
  const tokens = { ada: { token: "ada-1", ...everything }, bob: { token: "bob-1", ...everything } };
  await writeFile(at("tokens.json"), JSON.stringify(tokens));
  const args = ["--listen", "127.0.0.1:0", "--tokens", at("tokens.json")];
  await (await AgentProcess.start("home", args)).kill();
  await small(at("home", "exchange", ".models", "one-of-them.safetensors"));
  await published("of-ada", MAX_OWNER_MODELS - 1, "ada");
  await published("of-others", MAX_MODELS - MAX_OWNER_MODELS - 1);
  const home = await AgentProcess.start("home", args);
  const of = async (name: string): Promise<AgentProcess> => {
    await writeFile(at(`${name}.token`), `${name}-1`);
    const dial = ["--home", home.url!, "--token-file", at(`${name}.token`)];
    const agent = await AgentProcess.start(name, [...dial, "--patience", "0s"]);
    await small(agent.exchange("in.safetensors"));
    return agent;
  };
  const [ada, bob] = await Promise.all([of("ada"), of("bob")]);
  const { ref } = await ada.publish("a", "in.safetensors");
  const another = await ada.publish("a", "in.safetensors");
  expect(another).toMatchObject({ state: "failed", error: { code: "SERVER_BUSY", retryable: true } });
  // There is one place left.
  expect((await bob.publish("b", "in.safetensors")).state).toBe("done");
  expect(codeOf(await bob.publish("b", "in.safetensors"))).toBe("SERVER_BUSY");
  await small(home.exchange("in.safetensors"));
  const body = { name: "h", path: "in.safetensors" };
  const answers = [
    await home.ask("POST", "/v1/models", { body }),
    await home.ask("PUT", "/v1/models/h", { stream: Readable.from(["x"]) }),
  ];
  for (const { status, json } of answers) {
    expect([status, json.error.code]).toEqual([503, "SERVER_BUSY"]);
    expect(json.error.message).toContain(`${MAX_MODELS} models`);
  }
  expect((await home.status()).transfers).toEqual([]);

  await ada.ask("DELETE", `/v1/models/a?transfer=${ref.transfer}`);
  expect((await home.publish("h", "in.safetensors")).state).toBe("done");
});

it("tells who uploads that there is no room", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const agent = await AgentProcess.start("agent", ["--home", home.url!, "--patience", "0s"]);
  // Larger than the disk, if smaller than what a home takes of one peer; and no byte of it is read.
  await makeSparseModel(agent.exchange("in.safetensors"), 2 ** 40 - 2 ** 30);
  const { state, error } = await agent.publish("a", "in.safetensors");
  expect([state, error.peerCode]).toEqual(["failed", "TARGET_FULL"]);
  expect(await home.kept()).toEqual([]);
});
