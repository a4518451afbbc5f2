import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import {
  createModelServer,
  type ModelServer,
  receiveModel,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";

const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function mounted(server: Server): Promise<ModelServer> {
  const models = await createModelServer({ server });
  closers.push(() => models.close({ signal: AbortSignal.abort() }));
  models.publish("a", model);
  models.publish("a.twire", model);
  return models;
}

interface Answered {
  readonly status: number;
  readonly body: string;
}

function asked(
  url: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Answered> {
  const { method = "GET", headers = {}, body } = options;
  return new Promise((resolve, reject) => {
    const asking = request(url, { method, headers, agent: false }, async (response) => {
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part as Buffer);
      resolve({ status: response.statusCode!, body: Buffer.concat(parts).toString() });
    });
    asking.on("error", reject);
    asking.end(body);
  });
}

async function transfers(url: string): Promise<void> {
  for (const from of [`${url.replace("http", "ws")}/models/a`, `${url}/models/a`, `${url}/models/a.twire`]) {
    const names: string[] = [];
    for await (const { name } of receiveModel(from)) names.push(name);
    expect(names).toEqual(["w"]);
  }
}

describe("on a web server of the caller's", () => {
  test("models are served, and its own requests are answered as before, whoever came first", async () => {
    const seen: string[] = [];
    const web = createServer((asked: IncomingMessage, response) => {
      seen.push(`${asked.method} ${asked.url}`);
      asked.resume().on("end", () => response.end(`mine ${asked.url}`));
    });
    const models = await mounted(web);
    // Listeners that come later, and those that go, are the caller's affair as ever.
    const counting = (): number => seen.push("again");
    web.on("request", counting);
    expect(() => models.url).toThrow(/does not listen/);
    const url = await listening(web);
    expect(models.url).toBe(`${url.replace("http", "ws")}/models/`);
    await transfers(url);
    expect(seen).toEqual([]);
    expect(await asked(`${url}/`)).toEqual({ status: 200, body: "mine /" });
    expect(await asked(`${url}/models`)).toEqual({ status: 200, body: "mine /models" });
    expect(await asked(`${url}/modelsx/a`, { method: "PUT", body: "x".repeat(100_000) })).toMatchObject({
      status: 200,
    });
    expect(
      await asked(`${url}/upload`, { method: "POST", headers: { expect: "100-continue" }, body: "x" }),
    ).toMatchObject({ status: 200 });
    expect(seen).toEqual([
      "GET /",
      "again",
      "GET /models",
      "again",
      "PUT /modelsx/a",
      "again",
      "POST /upload",
      "again",
    ]);
    web.off("request", counting);
    expect((await asked(`${url}/models/none`)).status).toBe(404);
    expect((await asked(`${url}/models/a`, { method: "DELETE" })).status).toBe(404);
    expect(seen).toHaveLength(8);
    expect(web.listenerCount("request")).toBe(1);
  });

  test("its own upgrades go where they went", async () => {
    const web = createServer();
    const sockets = new WebSocketServer({ noServer: true });
    web.on("upgrade", (asked, socket, head) => {
      sockets.handleUpgrade(asked, socket, head, (opened) => opened.send(`mine ${asked.url}`));
    });
    await mounted(web);
    const url = await listening(web);
    const socket = new WebSocket(`${url.replace("http", "ws")}/chat`);
    closers.push(() => socket.terminate());
    expect(await new Promise((resolve) => socket.once("message", (data) => resolve(String(data))))).toBe(
      "mine /chat",
    );
    await transfers(url);
  });

  test("a request to upgrade that nobody upgrades is a request, as without us", async () => {
    const upgrade = { connection: "Upgrade", upgrade: "h2c" };
    const answers: Answered[][] = [];
    for (const mount of [false, true]) {
      const web = createServer(
        (asked, response) => void response.setHeader("x-own", "1").end(`mine ${asked.url}`),
      );
      if (mount) await mounted(web);
      const url = await listening(web);
      answers.push([
        await asked(`${url}/x`, { headers: upgrade }),
        await asked(`${url}/y`, { headers: { ...upgrade, upgrade: "websocket" } }),
      ]);
    }
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[0]).toEqual([
      { status: 200, body: "mine /x" },
      { status: 200, body: "mine /y" },
    ]);
  });

  test("closing leaves everything as it was", async () => {
    const web = createServer((asked, response) => void response.end(`mine ${asked.url}`));
    const { emit } = web;
    const models = await mounted(web);
    const url = await listening(web);
    await transfers(url);
    await models.close();
    expect(web.emit).toBe(emit);
    expect(web.listenerCount("upgrade")).toBe(0);
    expect(await asked(`${url}/models/a`)).toEqual({ status: 200, body: "mine /models/a" });
    expect(web.listening).toBe(true);
  });

  test("two of them live side by side, under prefixes of their own", async () => {
    const web = createServer((_asked, response) => void response.end("mine"));
    const first = await createModelServer({ server: web, prefix: "/first" });
    const second = await createModelServer({ server: web, prefix: "/second/models/" });
    first.publish("a", model);
    second.publish("b", model);
    const url = await listening(web);
    const names = async (from: string): Promise<string[]> => {
      const found: string[] = [];
      for await (const { name } of receiveModel(from)) found.push(name);
      return found;
    };
    expect(await names(first.urlOf("a"))).toEqual(["w"]);
    expect(await names(second.urlOf("b"))).toEqual(["w"]);
    await expect(names(first.urlOf("b"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    // In the order in which they came: the second has the first's place among its own.
    await first.close();
    expect(await names(second.urlOf("b"))).toEqual(["w"]);
    expect((await asked(`${url}/first/a`)).body).toBe("mine");
    await second.close();
    expect((await asked(`${url}/second/models/b`)).body).toBe("mine");
  });

  test("a socket that says nonsense is its own server's affair", async () => {
    const web = createServer((_asked, response) => void response.end("mine"));
    await mounted(web);
    const url = await listening(web);
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write("nonsense\r\n\r\n"));
    socket.on("error", () => {});
    const answer = await new Promise<string>((resolve) =>
      socket.once("data", (data) => resolve(String(data))),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    await transfers(url);
  });

  test.runIf(hasOpenssl)("over TLS, it is there too, and says so in its URL", async () => {
    const { ca, server } = makeAuthority();
    const web = createSecureServer(server);
    const models = await mounted(web);
    await listening(web as unknown as Server);
    expect(models.url).toMatch(/^wss:/);
    for (const url of [models.urlOf("a"), models.urlOf("a").replace("wss:", "https:")]) {
      const names: string[] = [];
      for await (const { name } of receiveModel(url, { dial: { tls: { ca } } })) names.push(name);
      expect(names).toEqual(["w"]);
    }
  });

  test("a token in clear text from beyond loopback is not looked at, nor does anybody come in from there without", async () => {
    // What a proxy on this host hands on came from somewhere.
    const forwarded = { "x-forwarded-for": "192.0.2.1" };
    for (const authorize of [undefined, () => ({ name: "anybody", fetch: true })]) {
      const web = createServer();
      const models = await createModelServer({ server: web, ...(authorize && { authorize }) });
      closers.push(() => models.close());
      models.publish("a", model);
      const url = await listening(web);
      const dial = { headers: { ...forwarded, authorization: "Bearer x" } };
      for (const scheme of ["ws", "http"]) {
        const from = `${scheme}${url.slice(4)}/models/a`;
        const { done } = receiveModel(from, { dial, to: "/dev/null/none" });
        await expect(done, from).rejects.toMatchObject({ code: "UNAUTHORIZED" });
      }
      expect((await asked(`${url}/models/a`, { headers: forwarded })).status).toBe(401);
      // Whoever is asked for nothing is not let in by the proxy's word either, which may be the stranger's own.
      const secured = { "x-forwarded-proto": "https" };
      for (const headers of [secured, { ...forwarded, ...secured }])
        expect((await asked(`${url}/models/a`, { headers })).status).toBe(authorize ? 200 : 401);
      expect((await asked(`${url}/models/a`)).status).toBe(200);
    }
  });
});

test("an upload over a mounted server arrives", async () => {
  const web = createServer();
  const received: string[] = [];
  const models = await createModelServer({
    server: web,
    onReceive: ({ name }, manifest) => {
      received.push(`${name} ${manifest.tensors.length}`);
      return {
        name: "nowhere",
        parallel: false,
        open: async () => {},
        write: () => undefined,
        finish: async () => {},
        abort: async () => {},
      };
    },
  });
  closers.push(() => models.close());
  const url = await listening(web);
  await streamModel(model, `${url}/models/up`);
  await streamModel(model, models.urlOf("up-2"));
  expect(received).toEqual(["up 1", "up-2 1"]);
});
