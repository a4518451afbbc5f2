import { writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import WebSocket from "ws";
import { AgentProcess, at, hasAgents, type Json } from "./agent-fixture.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { makeModel } from "./cli-process.js";

hasAgents();

const small = (path: string) => makeModel(path, [{ name: "w", dtype: "F32", shape: [262_144] }]);

const TOKENS = {
  ada: { token: "ada-secret", publish: ["ada/*"], fetch: true },
  bob: { token: "bob-secret", publish: ["bob/*"], fetch: ["bob/*"] },
};

async function homeWithTokens(...args: string[]): Promise<AgentProcess> {
  await writeFile(at("tokens.json"), JSON.stringify(TOKENS));
  const listening = ["--listen", "127.0.0.1:0", "--tokens", at("tokens.json")];
  return AgentProcess.start("home", [...listening, ...args]);
}

async function client(name: string, home: string, token: string, ...args: string[]): Promise<AgentProcess> {
  await writeFile(at(`${name}.token`), token);
  const agent = await AgentProcess.start(name, [
    ...["--home", home, "--token-file", at(`${name}.token`), "--patience", "2s", ...args],
  ]);
  await small(agent.exchange("in.safetensors"));
  return agent;
}

/** What it has said, once it was stopped. */
async function said(agent: AgentProcess): Promise<string[]> {
  agent.process.child.kill("SIGTERM");
  return (await agent.process.ended).stderr.trimEnd().split("\n");
}

it("says what has become of transfers, and who was turned away, at both ends, without secrets", async () => {
  const home = await homeWithTokens();
  const [ada, bob, eve] = await Promise.all([
    client("ada", home.url!, "ada-secret"),
    client("bob", home.url!, "bob-secret"),
    client("eve", home.url!, "eve-secret"),
  ]);
  const { ref } = await ada.publish("ada/update", "in.safetensors", { codec: "float16" });
  expect((await ada.fetch(ref)).state).toBe("done");
  expect((await home.fetch(ref)).state).toBe("done");
  // What is refused for want of a right names that, and the model, to who has asked.
  const fetched = await bob.fetch(ref);
  expect(fetched.error.code).toBe("FORBIDDEN");
  expect(fetched.error.message).toContain(`no right to fetch \\"ada/update\\" (transfer ${ref.transfer})`);
  const published = await bob.publish("ada/update", "in.safetensors", { id: "of-bob-now" });
  expect(published.error.message).toContain('no right to publish \\"ada/update\\" (transfer of-bob-now)');
  expect((await eve.publish("eve/update", "in.safetensors")).error.code).toBe("UNAUTHORIZED");
  await bob.ask("DELETE", `/v1/models/ada/update?transfer=${ref.transfer}`);

  await writeFile(at("tokens.json"), "{ this is none");
  expect((await ada.publish("ada/next", "in.safetensors")).error.code).toBe("UNAUTHORIZED");
  const freed = await ada.ask("DELETE", `/v1/models/ada/update?transfer=${ref.transfer}`);
  // Where the home has its tokens, and what is the matter with them, is its owner's to know.
  expect([freed.status, freed.json.error.message]).toEqual([401, expect.not.stringContaining("tokens.json")]);

  const model = `ada/update (transfer ${ref.transfer})`;
  const lines = await said(home);
  const all = lines.join("\n");
  expect(all).toMatch(
    /^received ada\/update \(transfer \S+\) from ada \(127\.0\.0\.1:\d+\): 1\.00 MiB at .*\/s, 51\d KiB on the wire$/m,
  );
  expect(all).toMatch(/^sent ada\/update \(transfer \S+\) to ada \(127/m);
  expect(all).toMatch(
    /^fetched ada\/update \(transfer \S+\): 1\.00 MiB in .* s \(.*\/s\), 51\d KiB encoded$/m,
  );
  expect(all).toMatch(/^refused 127\.0\.0\.1:\d+: FORBIDDEN: .* no right to fetch "ada\/update"/m);
  expect(all).toMatch(/^refused 127\.0\.0\.1:\d+: FORBIDDEN: .* no right to publish "ada\/update"/m);
  expect(all).toMatch(/^refused 127\.0\.0\.1:\d+: FORBIDDEN: .* no right to free .*"ada\/update"/m);
  expect(all).toMatch(/^refused 127\.0\.0\.1:\d+: UNAUTHORIZED: the credential is refused$/m);
  const unread = lines.filter((line) =>
    /UNAUTHORIZED: .*the tokens in ".*tokens\.json" are no JSON$/.test(line),
  );
  // One is the upload, one what takes it back, one the freeing.
  expect(unread.length).toBeGreaterThanOrEqual(2);
  const byAda = (await said(ada)).join("\n");
  expect(byAda).toContain(`published ${model}: 1.00 MiB in `);
  expect(byAda).toMatch(/^published .* 51\d KiB on the wire$/m);
  expect(byAda).toMatch(/^fetched ada\/update \(transfer \S+\): 1\.00 MiB in .*, 51\d KiB on the wire$/m);
  expect(byAda).toMatch(/^ada\/next \(transfer \S+\) was not published: UNAUTHORIZED: /m);
  expect((await said(bob)).join("\n")).toMatch(/^ada\/update \(transfer \S+\) was not fetched: FORBIDDEN: /m);
  expect((await said(eve)).join("\n")).toMatch(/^eve\/update .* was not published: UNAUTHORIZED: /m);
  expect(all + byAda).not.toMatch(/-secret/);
});

it("says once what keeps a transfer from going on, however often it tries", async () => {
  const agent = await client("agent", "ws://127.0.0.1:1", "a-secret");
  expect((await agent.publish("a", "in.safetensors")).error.code).toBe("CHANNEL_OPEN");
  const lines = await said(agent);
  expect(lines.filter((line) => line.includes("is interrupted"))).toEqual([
    expect.stringMatching(
      /^a \(transfer \S+\) is interrupted, and goes on trying: CHANNEL_OPEN: .*ws:\/\/127\.0\.0\.1:1/,
    ),
  ]);
  expect(lines.at(-1)).toMatch(/^a \(transfer \S+\) was not published: CHANNEL_OPEN: /);
});

it("says nothing of it with --quiet, and objects on stdout with --json", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0", "--quiet"]);
  const agent = await client("agent", home.url!, "a-secret", "--json");
  await agent.publish("a", "in.safetensors", { id: "the-transfer" });
  expect((await said(home)).every((line) => line.startsWith("tensorwire: "))).toBe(true);
  agent.process.child.kill("SIGTERM");
  const { stdout } = await agent.process.ended;
  const [done] = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Json);
  expect(done).toMatchObject({
    event: "done",
    kind: "publish",
    id: "the-transfer",
    name: "a",
    sourceBytes: 1_048_576,
  });
});

it("writes no control character, whoever has put it into a name", async () => {
  const agent = await AgentProcess.start("agent", ["--patience", "0"]);
  const name = "\u001b[31mred\n.safetensors";
  await small(agent.exchange(name));
  const body = { path: name, to: "ws://127.0.0.1:1/models/a" };
  expect((await agent.over(await agent.ask("POST", "/v1/sends", { body }))).state).toBe("failed");
  const lines = await said(agent);
  expect(lines.at(-1)).toMatch(/^\\u\{1b\}\[31mred\\u\{a\}\.safetensors to 127\.0\.0\.1:1 .*CHANNEL_OPEN/);
});

it("writes no line for each of a crowd that is turned away", async () => {
  const home = await homeWithTokens("--local", "127.0.0.1:0");
  for (let round = 0; round < 16; round++) {
    const knocking = Array.from({ length: 16 }, async () => {
      const socket = new WebSocket(`${home.url}/models/a`, {
        headers: { authorization: "Bearer none" },
      });
      await new Promise((resolve) => socket.on("error", () => {}).once("close", resolve));
    });
    await Promise.all(knocking);
  }
  home.token = "wrong";
  for (let i = 0; i < 20; i++) expect((await home.ask("GET", "/v1/status")).status).toBe(401);
  const lines = await said(home);
  const refused = lines.filter((line) => line.startsWith("refused "));
  expect(refused.length).toBeGreaterThanOrEqual(100);
  expect(refused.length).toBeLessThan(200);
  const [, left] = /^(\d+) lines of refusals and failures left out$/m.exec(lines.join("\n"))!;
  expect(refused.length + Number(left)).toBe(16 * 16 + 20);
});

it("says so where a program shows another token than the local interface's", async () => {
  const agent = await AgentProcess.start("agent", ["--local", "127.0.0.1:0"]);
  agent.token = "a-wrong-secret";
  await agent.ask("GET", "/v1/status");
  const lines = (await said(agent)).join("\n");
  expect(lines).toMatch(/^refused the local interface: UNAUTHORIZED: .*--local-token-file/m);
  expect(lines).not.toContain("a-wrong-secret");
});

it("names the file of a model that is none as the program knows it, and refuses a name the same way wherever it stands", async () => {
  const agent = await AgentProcess.start("agent");
  const stream = () => Readable.from([Buffer.from("no model at all, though it is long enough to be one")]);
  const put = await agent.over(await agent.ask("PUT", "/v1/models/a", { stream: stream() }));
  expect(put.error.code).toBe("SOURCE_INVALID");
  expect(put.error.message).toContain("the body of the request");
  expect(put.error.message).not.toContain(".taken");
  await writeFile(agent.exchange("bad.safetensors"), "no model at all, though it is long enough to be one");
  const given = await agent.publish("a", "bad.safetensors", { consume: true });
  expect(given.error.message).toContain('"bad.safetensors"');
  expect(given.error.message).not.toContain(".taken");

  await small(agent.exchange("in.safetensors"));
  const body = { name: ".hidden", path: "in.safetensors" };
  const refusals = [
    await agent.ask("POST", "/v1/models", { body }),
    await agent.ask("PUT", "/v1/models/.hidden", { stream: stream() }),
    await agent.ask("DELETE", "/v1/models/.hidden"),
  ];
  for (const { status, json } of refusals)
    expect([status, json.error.code]).toEqual([400, "INVALID_ARGUMENT"]);
});

it("says apart which model there is not, and which transfer of it", async () => {
  const home = await AgentProcess.start("home", ["--listen", "127.0.0.1:0"]);
  const agent = await client("agent", home.url!, "a-secret");
  const { ref } = await agent.publish("python/U", "in.safetensors");
  await agent.ask("DELETE", "/v1/models/python/U");
  const { error } = await agent.fetch(ref);
  expect(error.code).toBe("NOT_FOUND");
  expect(error.message).toContain(`no model called \\"python/U\\" (transfer ${ref.transfer})`);
});

it.runIf(hasOpenssl)("says what to do about a home's certificate that it does not know", async () => {
  const { server } = makeAuthority();
  for (const [name, pem] of Object.entries(server)) await writeFile(at(`${name}.pem`), pem);
  const home = await AgentProcess.start("home", [
    ...["--listen", "wss://127.0.0.1:0", "--tls-cert", at("cert.pem"), "--tls-key", at("key.pem")],
  ]);
  for (const scheme of ["wss:", "https:"]) {
    const agent = await client(`agent-${scheme.length}`, home.url!.replace("wss:", scheme), "a-secret");
    const { error } = await agent.publish("a", "in.safetensors");
    expect(error).toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
    expect(error.message).toContain("--tls-ca FILE");
    const freeing = await agent.ask("DELETE", "/v1/models/a?transfer=12345678");
    expect(freeing.json.error.message).toContain("--tls-ca FILE");
  }
});
