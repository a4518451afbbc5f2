import { spawnSync } from "node:child_process";
import { linkSync, lstatSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import {
  type Listener,
  type ListenOptions,
  listen,
  receiveModel,
  streamModel,
  type TensorMap,
  type TlsOptions,
} from "../src/index.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";

const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listening(options: ListenOptions): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "tensorwire-unix-"));
  closers.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Sends the model there, and gives what the listener's side receives. */
async function transfer(
  to: Listener,
  { url = to.url, tls }: { url?: string; tls?: TlsOptions } = {},
): Promise<void> {
  const stop = new AbortController();
  const { done } = receiveModel(to, { to: nowhere(), signal: stop.signal });
  done.catch(() => {});
  try {
    await streamModel(model, url, { dial: { tls } });
    await done;
  } finally {
    stop.abort();
  }
}

const nowhere = () => ({
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
});

describe("a Unix socket", () => {
  test("is there for its owner while it is listened on, and then is not", async () => {
    const at = folder();
    const path = join(at, "a b.sock");
    const listener = await listen({ path });
    expect(listener.url).toBe(`unix:${at}/a%20b.sock`);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(at)).toEqual(["a b.sock"]);
    await transfer(listener);
    await transfer(listener, { url: `unix://${at}/a%20b.sock` });
    await listener.close();
    expect(readdirSync(at)).toEqual([]);
  });

  test("that a dead process left is replaced", async () => {
    const at = folder();
    const path = join(at, "model.sock");
    const code = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", code]);
    expect(lstatSync(path).isSocket()).toBe(true);
    await transfer(await listening({ path }));
    expect(readdirSync(at)).toEqual(["model.sock"]);
  });

  test("where somebody listens is refused, and left alone", async () => {
    const path = join(folder(), "model.sock");
    const first = await listening({ path });
    await expect(listen({ path })).rejects.toMatchObject({
      code: "CHANNEL_OPEN",
      message: expect.stringContaining("somebody listens there already"),
    });
    await transfer(first);
  });

  test("is listened on by one of many that find a dead one at once", async () => {
    const at = folder();
    const path = join(at, "model.sock");
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once("listening", resolve));
    // Closing would unlink it: what is left is a second name of it.

    linkSync(path, `${path}.left`);
    await new Promise((resolve) => server.close(resolve));
    renameSync(`${path}.left`, path);
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => listen({ path })));
    const winners = results.filter((result) => result.status === "fulfilled").map(({ value }) => value);
    for (const winner of winners) closers.push(() => winner.close());
    expect(winners).toHaveLength(1);
    await transfer(winners[0]!);
    expect(readdirSync(at)).toEqual(["model.sock"]);
  });

  test("does not take the place of a file", async () => {
    const path = join(folder(), "model.sock");
    writeFileSync(path, "a file");
    await expect(listen({ path })).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
    expect(lstatSync(path).size).toBe(6);
  });

  test("whose file is another's by now is left when the listener closes", async () => {
    const path = join(folder(), "model.sock");
    const listener = await listen({ path });
    rmSync(path);
    writeFileSync(path, "a file");
    await listener.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(lstatSync(path).size).toBe(6);
  });

  test.each(["", "a\0b", join(tmpdir(), "x".repeat(108))])("cannot have a path such as %j", async (path) => {
    await expect(listen({ path })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("in a folder that is none is CHANNEL_OPEN, as nobody there is", async () => {
    const path = join(folder(), "none", "model.sock");
    await expect(listen({ path })).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
    await expect(streamModel(model, `unix:${path}`)).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
  });
});

describe("URLs", () => {
  test.each([
    "tcp://127.0.0.1",
    "tcp://:90",
    "tls://127.0.0.1:90/path",
    "tcp://user@127.0.0.1:90",
    "tcp://127.0.0.1:99999",
    "unix:relative.sock",
    "unix://host/path.sock",
    "unix:/path.sock?query",
    "unix:/a%00b",
    "unix:/a%2fb",
  ])("%s is an argument at fault, dialled and listened on", async (url) => {
    await expect(streamModel(model, url)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(listen({ url })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("name what is listened on, once", async () => {
    for (const options of [
      { url: "ftp://127.0.0.1:0" },
      { url: "tcp://127.0.0.1:0", port: 0 },
      { path: "/a", port: 1 },
    ]) {
      await expect(listen(options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    expect((await listening({ url: "ws://127.0.0.1:0" })).url).toMatch(/^ws:\/\/127\.0\.0\.1:\d+$/);
  });

  test("a port where nobody listens is CHANNEL_OPEN; a signal ends the wait", async () => {
    const { url, close } = await listen({ url: "tcp://127.0.0.1:0" }).then(async (listener) => ({
      url: listener.url,
      close: () => listener.close(),
    }));
    await close();
    await expect(streamModel(model, url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: true });
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(streamModel(model, url, { signal })).rejects.toMatchObject({ code: "ABORTED" });
  });
});

test("a peer that left before anybody took it does not fill a listener for TCP", async () => {
  const listener = await listening({ url: "tcp://127.0.0.1:0" });
  const port = Number(new URL(listener.url).port);
  for (let i = 0; i < 64; i++) {
    await new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => socket.end("early"));
      socket.resume().on("close", () => resolve());
    });
  }
  await transfer(listener);
});

test.each(["ws", "http", "tcp", "unix"])(
  "TLS options are refused for %s:, which has none",
  async (scheme) => {
    const url = scheme === "unix" ? "unix:/tmp/x.sock" : `${scheme}://127.0.0.1:1`;
    const refused = { code: "INVALID_ARGUMENT", message: expect.stringContaining("tls") };
    await expect(streamModel(model, url, { dial: { tls: {} } })).rejects.toMatchObject(refused);
    await expect(listen({ url, tls: {} })).rejects.toMatchObject(refused);
  },
);

describe.runIf(hasOpenssl)("TLS", () => {
  const { ca, server, client } = hasOpenssl ? makeAuthority() : ({} as never);
  const other = hasOpenssl ? makeAuthority() : ({} as never);
  const urls = ["tls://127.0.0.1:0", "wss://127.0.0.1:0", "https://127.0.0.1:0"];

  test.each(urls)("%s: the server's certificate is checked", async (url) => {
    const listener = await listening({ url, tls: server });
    const untrusted = { code: "CHANNEL_OPEN", retryable: false };
    await expect(transfer(listener)).rejects.toMatchObject(untrusted);
    await expect(transfer(listener, { tls: { ca: other.ca } })).rejects.toMatchObject(untrusted);
    const misnamed = { ca, servername: "other.example" };
    await expect(transfer(listener, { tls: misnamed })).rejects.toMatchObject(untrusted);
    await transfer(listener, { tls: { ca } });
    await transfer(listener, { tls: { ca, servername: "model.example" } });
    await transfer(listener, { tls: { rejectUnauthorized: false } });
    await transfer(listener, { url: listener.url.replace("127.0.0.1", "localhost"), tls: { ca } });
  });

  test.each(urls)("%s: where there is an authority, so are the peers'", async (url) => {
    const listener = await listening({ url, tls: { ca, ...server } });
    const refused = { code: expect.stringMatching(/^CHANNEL_(OPEN|CLOSED)$/) };
    await expect(transfer(listener, { tls: { ca } })).rejects.toMatchObject(refused);
    await expect(transfer(listener, { tls: { ca, ...other.client } })).rejects.toMatchObject(refused);
    await transfer(listener, { tls: { ca, ...client } });
  });

  test("listening takes certificate and key, and ones that belong together", async () => {
    const { cert, key } = server;
    for (const tls of [undefined, {}, { cert }, { key }, { cert, key: client.key }, { cert: "x", key }]) {
      await expect(listen({ url: "wss://127.0.0.1:0", tls })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });

  test("peers' certificates are credentials, and let a listener off loopback; the server's own are none", async () => {
    for (const url of ["tls://0.0.0.0:0", "wss://0.0.0.0:0", "https://0.0.0.0:0"]) {
      const loose: TlsOptions[] = [
        server,
        { ...server, requestCert: true },
        { ...server, ca, requestCert: false },
        { ...server, ca, rejectUnauthorized: false },
      ];
      for (const tls of loose) {
        await expect(listen({ url, tls })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      }
      const listener = await listening({ url, tls: { ca, ...server } });
      const dialled = listener.url.replace("0.0.0.0", "127.0.0.1");
      await transfer(listener, { url: dialled, tls: { ca, ...client } });
    }
    await expect(listen({ url: "tcp://0.0.0.0:0" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect((await listening({ url: "tcp://0.0.0.0:0", insecure: true })).url).toMatch(/^tcp:/);
  });

  test("a peer that speaks no TLS comes and goes", async () => {
    const listener = await listening({ url: "tls://127.0.0.1:0", tls: server });
    await new Promise<void>((resolve) => {
      const socket = connect(Number(new URL(listener.url).port), "127.0.0.1", () =>
        socket.end("GET / HTTP/1.1\r\n\r\n"),
      );
      socket
        .on("error", () => {})
        .resume()
        .on("close", () => resolve());
    });
    await transfer(listener, { tls: { ca } });
  });
});
