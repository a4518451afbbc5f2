import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { AgentProcess, at, hasAgents } from "./agent-fixture.js";
import { makeModel } from "./cli-process.js";

hasAgents();

const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [1000] }]);
const LONG_AGO = new Date(Date.now() - 100 * 24 * 60 * 60 * 1000);

/** What an agent says that does not start. */
async function refusal(name: string, ...args: string[]): Promise<string> {
  const started = await AgentProcess.start(name, args).catch(({ message }: Error) => message);
  expect(started, "it has started").toBeTypeOf("string");
  return started as string;
}

it("takes no folder for its exchange in which somebody else's files are", async () => {
  const folder = at("weights");
  const mine = at("weights", "mine.safetensors");
  await mkdir(folder);
  await small(mine);
  await utimes(mine, LONG_AGO, LONG_AGO);
  const args = ["--exchange", folder, "--keep", "1s"];
  expect(await refusal("agent", ...args)).toMatch(/TARGET_EXISTS.*weights.*--exchange.*--allow/s);
  expect(await readdir(folder)).toEqual(["mine.safetensors"]);

  // Also where it would be the default.
  await mkdir(at("agent", "exchange"), { recursive: true });
  await small(at("agent", "exchange", "mine.safetensors"));
  expect(await refusal("agent")).toContain("TARGET_EXISTS");
  expect(await readdir(at("agent", "exchange"))).toEqual(["mine.safetensors"]);

  // As it says: they may be published from there, and stay.
  const agent = await AgentProcess.start("other", ["--allow", folder, "--keep", "1s"]);
  const left = agent.exchange("left.safetensors");
  await small(left);
  expect((await agent.publish("a", mine)).state).toBe("done");
  while (existsSync(left)) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await readdir(folder)).toEqual(["mine.safetensors"]);
});

it("takes an empty folder for its exchange, and that one again, whatever is in it by then", async () => {
  await mkdir(at("empty"));
  const args = ["--exchange", at("empty")];
  const first = await AgentProcess.start("agent", args);
  await small(at("empty", "in.safetensors"));
  first.process.child.kill("SIGTERM");
  await first.process.ended;
  const again = await AgentProcess.start("agent", args);
  expect((await again.publish("a", "in.safetensors")).state).toBe("done");
  await again.kill();
  // Another agent than the one that marked it, and one that was killed before it could.
  await AgentProcess.start("other", args);
  await mkdir(at("half", ".models"), { recursive: true });
  await AgentProcess.start("third", ["--exchange", at("half")]);
  // What is in such a folder is nobody's model but the agent's; this one is.
  await mkdir(at("foreign", ".models"), { recursive: true });
  await small(at("foreign", ".models", "mine.safetensors"));
  expect(await refusal("agent", "--exchange", at("foreign"))).toContain("TARGET_EXISTS");
  expect(await readdir(at("foreign", ".models"))).toEqual(["mine.safetensors"]);
});

it("leaves files alone that others have in a folder of the name of its records", async () => {
  await mkdir(at("agent", "models"), { recursive: true });
  const drafts = ["chapter.draft", "notes.json.draft"].map((name) => at("agent", "models", name));
  for (const path of drafts) await writeFile(path, "mine");
  await AgentProcess.start("agent");
  for (const path of drafts) expect(await readFile(path, "utf8")).toBe("mine");
});

it("takes no token that other users can read", async () => {
  const token = at("token");
  const args = ["--local", "127.0.0.1:0", "--local-token-file", token];
  const made = await AgentProcess.start("agent", args);
  expect((await stat(token)).mode & 0o777).toBe(0o600);
  await made.kill();
  for (const mode of [0o640, 0o604, 0o622]) {
    await chmod(token, mode);
    expect(await refusal("agent", ...args)).toMatch(/INVALID_ARGUMENT.*token.*chmod 600/s);
  }
  await chmod(token, 0o400);
  const secret = (await readFile(token, "utf8")).trim();
  const agent = await AgentProcess.start("agent", args, secret);
  expect((await agent.status()).api).toBe(1);
});

it("takes no option that would change nothing", async () => {
  for (const option of [
    ["--retry", "3"],
    ["--seed", "0123456789abcdef"],
  ]) {
    expect(await refusal("agent", ...option)).toMatch(new RegExp(`INVALID_ARGUMENT.*${option[0]}`));
  }
});
