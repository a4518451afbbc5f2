import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeFrame, encodeJson, FrameType, PREAMBLE, PROTOCOL_VERSION } from "@tensorwire/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import WebSocket from "ws";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { CliProcess, json, makeModel, run } from "./cli-process.js";

let folder: string;
let model: string;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-listen-"));
  model = at("model.safetensors");
  await makeModel(model, [{ name: "w", dtype: "F32", shape: [64, 1024] }]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Sends bytes over plain TCP and waits until the listener has had enough of it. */
function tcp(url: string, bytes: Uint8Array | string): Promise<void> {
  const { port, hostname } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.end(bytes));
    socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });
}

/** Opens a WebSocket, sends messages, and waits until the listener closes it, or closes it at once. */
function webSocket(url: string, messages: readonly (Uint8Array | string)[], leave: boolean): Promise<void> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    socket.on("open", () => {
      for (const message of messages) socket.send(message);
      if (leave) socket.close();
    });
  });
}

function hello(role: "send" | "receive"): Uint8Array {
  const limits = { maxChunkBytes: 1 << 22, maxManifestBytes: 1 << 22 };
  const body = encodeJson({
    versions: [PROTOCOL_VERSION],
    software: "a test",
    role,
    codecs: ["none"],
    limits,
  });
  return Buffer.concat([PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, body)]);
}

const garbage = Uint8Array.from({ length: 5000 }, (_, i) => (i * 131 + 7) & 0xff);

/** What wanders by an open port before the peer that is meant. */
async function strangers(url: string, role: "send" | "receive"): Promise<Socket> {
  await tcp(url, garbage);
  await tcp(url, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await tcp(url, "");
  await webSocket(url, [], true);
  await webSocket(url, [garbage], false);
  await webSocket(url, ["text"], false);
  // The same role as the listener's own: a second sender, say.
  await webSocket(url, [hello(role)], false);
  // One that stays and says nothing holds nobody up.
  const { port, hostname } = new URL(url);
  const idle = connect(Number(port), hostname);
  idle.on("error", () => {});
  return idle;
}

test("strangers do not end `receive --listen`, nor does a sender that leaves before its model", async () => {
  const out = at("received.safetensors");
  const receiver = new CliProcess(["receive", "--listen", "127.0.0.1:0", "--out", out, "--json"]);
  const url = await receiver.url();
  const idle = await strangers(url, "receive");
  await webSocket(url, [hello("send")], true);
  const sent = await run("send", model, url);
  const received = await receiver.ended;
  idle.destroy();
  expect([sent.code, received.code]).toEqual([0, 0]);
  expect(json(received).confirmed).toBe(true);
  expect((await readFile(out)).equals(await readFile(model))).toBe(true);
});

test("strangers do not end `send --listen`", async () => {
  const out = at("fetched.safetensors");
  const sender = new CliProcess(["send", model, "--listen", "127.0.0.1:0", "--json"]);
  const url = await sender.url();
  const idle = await strangers(url, "send");
  const received = await run("receive", url, "--out", out);
  const sent = await sender.ended;
  idle.destroy();
  expect([sent.code, received.code]).toEqual([0, 0]);
  expect((await readFile(out)).equals(await readFile(model))).toBe(true);
});

test("a port that is given is used, on the host that is given", async () => {
  const first = new CliProcess(["receive", "--listen", "[::1]:0", "--out", at("v6.safetensors")]);
  // Where the machine has no IPv6, that is what it says.
  const url = await first.url().catch(async () => {
    expect((await first.ended).stderr).toMatch(/CHANNEL_OPEN: cannot listen/);
    return undefined;
  });
  if (!url) return console.log("SKIPPED: needs IPv6");
  expect(url).toMatch(/^ws:\/\/\[::1\]:\d+$/);
  const { port } = new URL(url);
  const second = await run("receive", "--listen", `[::1]:${port}`, "--out", at("never.safetensors"));
  expect(second.code).toBe(5);
  expect(second.stderr).toContain("EADDRINUSE");
  expect((await run("send", model, url)).code).toBe(0);
  expect((await first.ended).code).toBe(0);
});

test("without --insecure only loopback is listened on", async () => {
  const refused = await run("receive", "--listen", "0.0.0.0:0", "--out", at("refused.safetensors"));
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("--insecure");

  const open = new CliProcess(["receive", "--listen", ":0", "--insecure", "--out", at("loop.safetensors")]);
  expect(await open.url()).toMatch(/^ws:\/\/127\.0\.0\.1:/);
  open.child.kill("SIGTERM");
  expect((await open.ended).code).toBe(143);

  const wide = new CliProcess([
    "receive",
    "--listen",
    "0.0.0.0:0",
    "--insecure",
    "--out",
    at("wide.safetensors"),
  ]);
  const { port } = new URL(await wide.url());
  expect((await run("send", model, `ws://127.0.0.1:${port}`)).code).toBe(0);
  expect((await wide.ended).code).toBe(0);
  expect(await readdir(folder)).not.toContain("refused.safetensors");
});

test("Unix and TCP sockets, and HTTP, are listened on, and dialled, by their URLs", async () => {
  for (const [where, out] of [
    [`unix:${at("model.sock")}`, "unix.safetensors"],
    ["tcp://127.0.0.1:0", "tcp.safetensors"],
    ["http://127.0.0.1:0", "http.safetensors"],
  ] as const) {
    const receiver = new CliProcess(["receive", "--listen", where, "--out", at(out)]);
    expect((await run("send", model, await receiver.url())).code).toBe(0);
    expect((await receiver.ended).code).toBe(0);
    expect((await readFile(at(out))).equals(await readFile(model))).toBe(true);
  }
  expect(await readdir(folder)).not.toContain("model.sock");
});

test.runIf(hasOpenssl)("with certificates at both ends, beyond loopback too", async () => {
  const { ca, server, client } = makeAuthority();
  await writeFile(at("ca.pem"), ca);
  for (const [name, { cert, key }] of Object.entries({ server, client })) {
    await writeFile(at(`${name}.pem`), cert);
    await writeFile(at(`${name}.key`), key);
  }
  const flags = (name: string): string[] => [
    ...["--tls-ca", at("ca.pem"), "--tls-cert", at(`${name}.pem`), "--tls-key", at(`${name}.key`)],
  ];
  for (const where of ["0.0.0.0:0", "tls://0.0.0.0:0"]) {
    const sender = new CliProcess(["send", model, "--listen", where, ...flags("server")]);
    const url = (await sender.url()).replace("0.0.0.0", "127.0.0.1");
    expect(url).toMatch(where.startsWith("tls") ? /^tls:/ : /^wss:/);
    const out = at(`${url.slice(0, 3)}.safetensors`);
    const stranger = await run("receive", url, "--out", out, "--tls-ca", at("ca.pem"));
    expect([stranger.code, stranger.stderr]).toEqual([5, expect.stringContaining("CHANNEL_")]);
    const misnamed = await run("receive", url, "--out", out, ...flags("client"), "--tls-servername", "x");
    expect([misnamed.code, misnamed.stderr]).toEqual([5, expect.stringContaining("CHANNEL_OPEN")]);
    expect((await run("receive", url, "--out", out, ...flags("client"))).code).toBe(0);
    expect((await sender.ended).code).toBe(0);
  }
  const missing = await run("receive", "tls://127.0.0.1:1", "--out", at("x"), "--tls-ca", at("none.pem"));
  expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining("--tls-ca")]);
});
