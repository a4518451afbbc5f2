import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { CliProcess, json, makeModel, makeSparseModel, run } from "./cli-process.js";

let folder: string;
const at = (name: string): string => join(folder, name);
const servers: CliProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-serve-"));
  for (const name of ["models", "models/sub", "uploads"]) await mkdir(at(name));
});
afterEach(async () => {
  for (const { child, ended } of servers.splice(0)) {
    child.kill("SIGKILL");
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
});

function serve(...flags: string[]): CliProcess {
  const server = new CliProcess(["serve", at("models"), ...flags]);
  servers.push(server);
  return server;
}

/** Events of `--json`, one a line. */
// biome-ignore lint/suspicious/noExplicitAny: their shapes are what the tests are about
const events = (stdout: string): any[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

test("serve gives the models of a folder by their paths, new ones too, and takes none unless it is told", async () => {
  const server = serve("--json");
  const url = await server.url();
  await makeModel(at("models/sub/a.safetensors"), [{ name: "w", dtype: "F32", shape: [64, 1024] }]);
  await run("pack", at("models/sub/a.safetensors"), at("models/b.twire"));
  await writeFile(at("models/notes.txt"), "nothing of theirs");
  const http = url.replace("ws:", "http:");
  const out = at("out.safetensors");
  for (const from of [
    `${url}sub/a.safetensors`,
    `${http}sub/a.safetensors`,
    `${url}b.twire`,
    `${http}b.twire`,
  ]) {
    const received = await run("receive", from, "--out", out, "--overwrite");
    expect([received.code, received.stderr]).toEqual([0, expect.anything()]);
    expect((await readFile(out)).equals(await readFile(at("models/sub/a.safetensors")))).toBe(true);
  }
  for (const name of ["notes.txt", "c.safetensors", "sub", "sub/A.safetensors", "..%2fout.safetensors"]) {
    const refused = await run("receive", url + name, "--out", at("x"));
    expect([refused.code, refused.stderr]).toEqual([9, expect.stringContaining("NOT_FOUND")]);
  }
  const upload = await run("send", out, `${url}up.safetensors`);
  expect([upload.code, upload.stderr]).toEqual([9, expect.stringContaining("FORBIDDEN")]);
  server.child.kill("SIGTERM");
  const { code, stdout } = await server.ended;
  expect(code).toBe(0);
  const done = events(stdout).filter(({ event }) => event === "done");
  expect(done.map(({ name, direction }) => [name, direction])).toEqual([
    ["sub/a.safetensors", "fetch"],
    ["sub/a.safetensors", "fetch"],
    ["b.twire", "fetch"],
  ]);
  // By HTTP alone it is a file, whole or in parts.
  const answers = events(stdout).filter(({ event }) => event === "answer");
  expect(new Set(answers.map(({ name }) => name))).toEqual(new Set(["b.twire"]));
  expect(Math.max(...answers.map(({ bytes }) => bytes))).toBeGreaterThan(0);
  expect(events(stdout).filter(({ event }) => event === "refused")).toHaveLength(6);
});

test("serve encodes a model once where it has a spool, and anew when it has changed", async () => {
  await mkdir(at("spool"));
  const server = serve("--spool", at("spool"), "--codec", "normfloat4", "--json");
  const url = await server.url();
  const spooled = async () =>
    (await readdir(at("spool/a.safetensors"))).filter((name) => name.endsWith(".twire")).sort();
  for (const [rows, files] of [
    [64, ["1-normfloat4.twire"]],
    [64, ["1-normfloat4.twire"]],
    [65, ["1-normfloat4.twire", "2-normfloat4.twire"]],
  ] as const) {
    if (rows === 65 || !existsSync(at("models/a.safetensors")))
      await makeModel(at("models/a.safetensors"), [{ name: "w", dtype: "F32", shape: [rows, 1024] }]);
    const received = await run("receive", `${url}a.safetensors`, "--out", at("out.twire"), "--overwrite");
    expect([received.code, received.stderr]).toEqual([0, expect.anything()]);
    expect(await spooled()).toEqual(files);
    const artifact = await readFile(at(`spool/a.safetensors/${files.at(-1)}`));
    expect((await readFile(at("out.twire"))).equals(artifact)).toBe(true);
  }
  // Any web client has parts of it.
  const part = await fetch(`${url.replace("ws:", "http:")}a.safetensors`, { headers: { range: "bytes=-8" } });
  expect([part.status, (await part.arrayBuffer()).byteLength]).toEqual([206, 8]);
  server.child.kill("SIGTERM");
  expect((await server.ended).code).toBe(0);
});

test("serve answers Prometheus where it is told to, and lets go of who says nothing in time", async () => {
  const server = serve("--metrics", "--idle-timeout", "300ms", "--json");
  const url = await server.url();
  const { host, hostname, port } = new URL(url);
  await expect((await fetch(`http://${host}/metrics`)).text()).resolves.toContain(
    "tensorwire_transfers_total",
  );
  // A channel on which HELLO does not come.
  const socket = new WebSocket(`ws://${hostname}:${port}/models/a`);
  await new Promise((resolve) => socket.once("close", resolve));
  server.child.kill("SIGTERM");
  const { stdout } = await server.ended;
  expect(events(stdout)).toMatchObject([{ event: "refused", error: { code: "IDLE_TIMEOUT" } }]);
});

test("serve takes uploads into the folder that it is given, from those whose token allows it, and says no token", async () => {
  await writeFile(
    at("tokens.json"),
    JSON.stringify({ site: { token: "sEcReT-of-site", publish: ["site/*"] } }),
  );
  await writeFile(at("token"), "sEcReT-of-site\n");
  await makeModel(at("m.safetensors"), [{ name: "w", dtype: "F32", shape: [64, 1024] }]);
  const server = serve("--uploads", at("uploads"), "--tokens", at("tokens.json"));
  const url = await server.url();
  const send = (name: string, ...flags: string[]) => run("send", at("m.safetensors"), url + name, ...flags);
  const byFile = await send("site/a.safetensors", "--token-file", at("token"));
  expect([byFile.code, byFile.stderr]).toEqual([0, expect.anything()]);
  const byVariable = new CliProcess(["send", at("m.safetensors"), `${url}site/b.safetensors`], {
    TENSORWIRE_TOKEN: "sEcReT-of-site",
  });
  expect((await byVariable.ended).code).toBe(0);
  const none = await send("site/c.safetensors");
  expect([none.code, none.stderr]).toEqual([9, expect.stringContaining("UNAUTHORIZED")]);
  const elsewhere = await send("other/c.safetensors", "--token-file", at("token"));
  expect([elsewhere.code, elsewhere.stderr]).toEqual([9, expect.stringContaining("FORBIDDEN")]);
  const twice = await send("site/a.safetensors", "--token-file", at("token"));
  expect([twice.code, twice.stderr]).toEqual([8, expect.stringContaining("TARGET_EXISTS")]);
  // Where on the server's disk it is, a peer need not know.
  expect(twice.stderr).not.toContain(folder.slice(1));
  await writeFile(at("wrong"), "sEcReT of nobody");
  const malformed = await send("site/d.safetensors", "--token-file", at("wrong"));
  expect([malformed.code, malformed.stderr]).toEqual([2, expect.stringContaining("--token-file")]);
  server.child.kill("SIGINT");
  const { stdout, stderr } = await server.ended;
  const said = [
    stdout,
    stderr,
    ...[byFile, none, elsewhere, twice, malformed].flatMap(({ stdout, stderr }) => [stdout, stderr]),
  ];
  for (const text of said) expect(text).not.toContain("sEcReT");
  expect(stderr).toMatch(/received site\/a\.safetensors from site \(127\.0\.0\.1:\d+\): 256 KiB at /);
  expect((await readdir(at("uploads/site"))).sort()).toEqual(["a.safetensors", "b.safetensors"]);
});

describe("while a transfer is under way", () => {
  async function underWay(): Promise<{ server: CliProcess; receiver: CliProcess }> {
    await makeSparseModel(at("models/large.safetensors"), 256 * 1024 ** 2);
    const server = serve();
    const url = await server.url();
    const out = at("large.safetensors");
    const slow = ["--window", "1MiB", "--max-bytes-per-second", "64M", "--json"];
    const receiver = new CliProcess(["receive", `${url}large.safetensors`, "--out", out, ...slow]);
    await receiver.saw(/^ +\d+ % /m);
    server.child.kill("SIGTERM");
    await server.saw(/waiting for transfers/);
    const late = await run("receive", `${url}large.safetensors`, "--out", at("late"), "--retry", "0");
    expect([late.code, late.stderr]).toEqual([5, expect.stringMatching(/SERVER_BUSY|CHANNEL_OPEN/)]);
    return { server, receiver };
  }

  test("the first SIGTERM waits for it, and takes no more", async () => {
    const { server, receiver } = await underWay();
    expect((await receiver.ended).code).toBe(0);
    expect((await server.ended).code).toBe(0);
  }, 60_000);

  test("the second ends it, and the peer hears of it", async () => {
    const { server, receiver } = await underWay();
    await new Promise((resolve) => setTimeout(resolve, 600));
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(143);
    const received = await receiver.ended;
    expect(received.code).toBe(8);
    expect(json(received).error.code).toBe("ABORTED");
  });
});

test("serve says at once what it cannot do", async () => {
  const cases: [string[], number, RegExp][] = [
    [[at("none")], 2, /cannot be served/],
    [[at("models"), "--uploads", at("none")], 4, /TARGET_WRITE/],
    [[at("models"), "--tokens", at("none")], 2, /cannot be read/],
    [[at("models"), "--listen", "0.0.0.0:0"], 2, /--insecure/],
    [[at("models"), "--listen", "tcp://127.0.0.1:0"], 2, /model server listens/],
    [[at("models"), "--codec", "zip"], 7, /zip/],
  ];
  for (const [args, code, words] of cases) {
    const refused = await run("serve", ...args);
    expect([refused.code, refused.stderr]).toEqual([code, expect.stringMatching(words)]);
  }
});
