import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { request as requestSecurely } from "node:https";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { MAX_SILENT } from "../src/channel/silent-sockets.js";
import {
  createModelServer,
  listen,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  type TensorMap,
} from "../src/index.js";
import { hasOpenssl, type Identity, makeAuthority } from "./certificates.js";
import { authorize, closed, closers, socketTo, TOKEN, until } from "./hostile-visitors-fixture.js";

const model: TensorMap = { w: { dtype: "F32", shape: [1000], data: new Float32Array(1000).fill(7) } };

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer({ authorize, ...options });
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  server.publish("model", model);
  return server;
}

async function fetches(server: ModelServer): Promise<void> {
  for await (const { data } of receiveModel(server.urlOf("model"), { dial: { token: TOKEN } })) {
    expect(new Float32Array(data.slice().buffer)[999]).toBe(7);
  }
}

describe("a model server", () => {
  test("answers requests to become a WebSocket that show nothing, or too much, with their status", async () => {
    const server = await serving();
    const { port } = new URL(server.url);
    const ask = (headers: Record<string, string>, path = "/models/model") =>
      new Promise<number>((resolve, reject) => {
        const upgrade = {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        };
        const asked = request({ port, path, headers: { ...upgrade, ...headers } });
        asked.on("response", ({ statusCode }) => resolve(statusCode!));
        asked.on("upgrade", (_response, socket) => {
          socket.destroy();
          resolve(101);
        });
        asked.on("error", reject);
        asked.end();
      });
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
    expect(await ask({})).toBe(401);
    expect(await ask(bearer("wrong"))).toBe(401);
    expect(await ask({ authorization: `Basic ${TOKEN}` })).toBe(401);
    expect(await ask(bearer(`${TOKEN} ${TOKEN}`))).toBe(401);
    expect(await ask(bearer("x".repeat(9000)))).toBe(401);
    expect(await ask(bearer("x".repeat(20_000)))).toBe(431);
    expect(await ask(bearer(TOKEN), "/elsewhere")).toBe(404);
    expect(await ask({ ...bearer(TOKEN), "sec-websocket-version": "1" })).toBe(400);
    expect(await ask(bearer(TOKEN))).toBe(101);
    await fetches(server);
  });

  test("serves while thousands of connections knock, and holds little for them", async () => {
    const server = await serving();
    const { port } = new URL(server.url);
    const knocker = fork(fileURLToPath(new URL("knocker.mjs", import.meta.url)), [port, "10000"]);
    closers.push(() => knocker.kill("SIGKILL"));
    const before = process.memoryUsage().rss;
    const said = messages(knocker);
    for (let i = 0; i < 5; i++) await fetches(server);
    expect(await said.next()).toBe("knocked");
    for (let i = 0; i < 5; i++) await fetches(server);
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(200);
    knocker.kill("SIGKILL");
    await fetches(server);
    await until(() => server.transfers === 0);
  }, 120_000);

  test("takes no web page of another site, whoever's browser it is in", async () => {
    const server = await serving({ authorize: undefined });
    const { port } = new URL(server.url);
    const status = (headers: Record<string, string>, method = "GET"): Promise<number | undefined> =>
      new Promise((resolve) => {
        const at = { host: "127.0.0.1", port, path: "/models/model", agent: false };
        const asking = request({ ...at, method, headers }, ({ statusCode }) => resolve(statusCode));
        asking.on("upgrade", ({ statusCode }, socket) => {
          socket.destroy();
          resolve(statusCode);
        });
        asking.end();
      });
    const answers = async (origin: string, host: string): Promise<(number | undefined)[]> => [
      await status({
        ...{ origin, host, connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" },
        "sec-websocket-key": Buffer.alloc(16).toString("base64"),
      }),
      await status({ origin, host, "content-type": "application/vnd.tensorwire.channel" }, "POST"),
    ];
    const own = `127.0.0.1:${port}`;
    expect(await answers("https://elsewhere.example", own)).toEqual([403, 403]);
    expect(await answers("null", own)).toEqual([403, 403]);
    // A name of the stranger's that leads here.
    expect(await answers(`http://elsewhere.example:${port}`, `elsewhere.example:${port}`)).toEqual([
      403, 403,
    ]);
    expect(await answers(`http://${own}`, own)).toEqual([101, 201]);
  });

  test("takes a transfer URL from nobody else than who opened it", async () => {
    const server = await serving({
      authorize: (credential) => (credential && { name: credential, fetch: true }) || undefined,
    });
    const url = server.urlOf("model").replace("ws:", "http:");
    const ask = async (method: string, to: string, token?: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(to, {
        method,
        headers: { ...headers, ...(token && { authorization: `Bearer ${token}` }) },
      });
      await answer.arrayBuffer();
      return answer;
    };
    const type = { "content-type": "application/vnd.tensorwire.channel" };
    expect((await ask("POST", url, undefined, type)).status).toBe(401);
    const opened = await ask("POST", url, "owner", type);
    expect(opened.status).toBe(201);
    const transfer = new URL(opened.headers.get("location")!, url).href;
    for (const token of [undefined, "thief", "OWNER"]) {
      for (const method of ["GET", "PUT", "HEAD", "DELETE"]) {
        expect((await ask(method, transfer, token, { "tensorwire-received": "0" })).status).toBe(404);
      }
    }
    expect((await ask("HEAD", transfer, "owner", { "tensorwire-received": "0" })).status).toBe(200);
    expect((await ask("DELETE", transfer, "owner", { "tensorwire-received": "0" })).status).toBe(204);
  });

  test.runIf(hasOpenssl)("takes a transfer URL from no other certificate either", async () => {
    const { ca, server: own, client } = makeAuthority();
    const server = await serving({
      ...{ url: "https://127.0.0.1:0", tls: { ...own, ca } },
      authorize: (_, { subject }) => (subject ? { name: subject, fetch: true } : undefined),
    });
    const url = server.urlOf("model").replace("wss:", "https:");
    const status = (method: string, at: string, identity: Identity): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const headers = { "content-type": "application/vnd.tensorwire.channel", "tensorwire-received": "0" };
        const tls = { ca, ...identity, agent: false };
        requestSecurely(at, { method, headers, ...tls }, resolve)
          .on("error", reject)
          .end();
      });
    const { statusCode, headers } = await status("POST", url, client);
    expect(statusCode).toBe(201);
    const transfer = new URL(headers.location!, url).href;
    expect((await status("HEAD", transfer, own)).statusCode).toBe(404);
    expect((await status("HEAD", transfer, client)).statusCode).toBe(200);
  });

  test("holds little of a message that is not complete", async () => {
    const server = await serving({ idleTimeoutMs: 0 });
    const socket = socketTo(server.url);
    const key = Buffer.alloc(16).toString("base64");
    socket.write(
      `GET /models/model HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    await once(socket, "data");
    const head = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0]);
    socket.write(head);
    // Gone before the megabyte and a byte that it announces: nothing of it was sent.
    await closed(socket);
    await fetches(server);
  });

  test("of HTTP channels alone gives way to others too", async () => {
    const listener = await listen({ url: "http://127.0.0.1:0" });
    closers.push(() => listener.close());
    const sockets = Array.from({ length: MAX_SILENT + 50 }, () => socketTo(listener.url));
    // What does not fit into the system's queue comes when there is something to send.
    for (const socket of sockets) socket.write("GET / HTTP/1.1\r\n");
    await until(() => sockets.filter(({ destroyed }) => destroyed).length >= 50);
  });

  test("is open to others while more connections say nothing than it keeps", async () => {
    const server = await serving();
    const sockets = Array.from({ length: MAX_SILENT + 50 }, () => socketTo(server.url));
    for (const socket of sockets) socket.write("GET /models/model HTTP/1.1\r\n");
    await until(() => sockets.filter(({ destroyed }) => destroyed).length >= 50);
    await fetches(server);
    expect(sockets.filter(({ destroyed }) => !destroyed).length).toBeGreaterThan(MAX_SILENT - 10);
  });

  test("hears of peers that leave in the middle, and forgets them", async () => {
    const server = await serving({ limits: { maxPeerTransfers: 2, maxConnections: 4 } });
    for (let i = 0; i < 20; i++) {
      const stop = new AbortController();
      const { manifest, done } = receiveModel(server.urlOf("model"), {
        dial: { token: TOKEN },
        signal: stop.signal,
        to: { ...nowhere(), write: () => new Promise<void>(() => {}) },
      });
      await manifest;
      stop.abort();
      await expect(done).rejects.toMatchObject({ code: "ABORTED" });
      await until(() => server.transfers === 0);
    }
    await fetches(server);
  });
});

const nowhere = () => ({
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: (): Promise<void> | undefined => undefined,
  finish: async () => {},
  abort: async () => {},
});

function messages(child: ChildProcess): { next(): Promise<unknown> } {
  const arrived: unknown[] = [];
  const waiting: ((message: unknown) => void)[] = [];
  child.on("message", (message) => {
    const next = waiting.shift();
    if (next) next(message);
    else arrived.push(message);
  });
  return {
    next: () =>
      arrived.length ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve)),
  };
}
