import { once } from "node:events";
import { createServer, get as httpGet, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Channel, type ErrorCode, TensorwireError } from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import { request } from "undici";
import { WebSocket } from "ws";
import {
  dialHttp,
  HttpChannels,
  type HttpChannelsOptions,
  type Listener,
  listen,
  memoryChannelPair,
  receiveModel,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import type { Visitors } from "../src/channel/server.js";
import { Relay } from "./relay.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const MiB = 2 ** 20;
const TYPE = "application/vnd.tensorwire.channel";
const model: TensorMap = {
  w: { dtype: "F32", shape: [6 * MiB], data: new Float32Array(6 * MiB).map((_, i) => i % 1000) },
};
const nowhere = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

async function serving(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  closers.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** HTTP channels within a server that has other things to do. */
async function mounted(
  visitors: Partial<Visitors> = {},
  options: HttpChannelsOptions = {},
): Promise<{ url: string; channels: Channel[]; server: Server }> {
  const channels: Channel[] = [];
  const http = new HttpChannels(
    { full: false, enter: (channel) => channels.push(channel), ...visitors },
    options,
  );
  const server = createServer((incoming, response) => {
    if (!http.handle(incoming, response)) response.end("something else");
  });
  closers.push(() => Promise.all(channels.map((channel) => channel.close(new Error("the test is over")))));
  return { url: await serving(server), channels, server };
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly text: string;
}

/** Requests as another implementation makes them. */
async function ask(
  url: string,
  method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE",
  headers: Record<string, string> = {},
  body?: string,
): Promise<Answer> {
  const answer = await request(url, { method, headers, body: body ?? null });
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
}

async function created(url: string, headers: Record<string, string> = {}): Promise<string> {
  const { status, headers: answer } = await ask(url, "POST", { "content-type": TYPE, ...headers });
  expect(status).toBe(201);
  return new URL(String(answer.location), url).href;
}

/** A channel whose bytes are text, and its transfer URL. */
async function opened(headers: Record<string, string> = {}): Promise<{
  transfer: string;
  channel: Channel;
  heard: { text: string; end?: Error | "orderly" };
}> {
  const { url, channels } = await mounted();
  const transfer = await created(url, headers);
  const [channel] = channels;
  const heard: { text: string; end?: Error | "orderly" } = { text: "" };
  channel!.open({
    bytes: (portion) => void (heard.text += Buffer.from(portion).toString()),
    end: (error) => void (heard.end = error ?? "orderly"),
  });
  return { transfer, channel: channel!, heard };
}

const put = (transfer: string, offset: number, body: string, headers: Record<string, string> = {}) =>
  ask(transfer, "PUT", { "tensorwire-offset": String(offset), "tensorwire-received": "0", ...headers }, body);
const get = (transfer: string, received: number, headers: Record<string, string> = {}) =>
  ask(transfer, "GET", { "tensorwire-received": String(received), ...headers });

describe("the exchange of docs/wire-format.md", () => {
  test("a PUT's body belongs at its offset, however often it comes", async () => {
    const { transfer, heard } = await opened();
    expect(await put(transfer, 0, "abc")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "3" },
    });
    expect(await put(transfer, 0, "abc")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "3" },
    });
    expect(await put(transfer, 1, "bcdef")).toMatchObject({
      status: 200,
      headers: { "tensorwire-received": "6" },
    });
    expect(heard.text).toBe("abcdef");
    const asked = await ask(transfer, "HEAD", { "tensorwire-received": "0" });
    expect(asked).toMatchObject({ status: 200, headers: { "tensorwire-received": "6" } });
  });

  test("a PUT waits for the one before it", async () => {
    const { transfer, heard } = await opened();
    const second = put(transfer, 3, "def");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(heard.text).toBe("");
    await put(transfer, 0, "abc");
    expect(await second).toMatchObject({ status: 200, headers: { "tensorwire-received": "6" } });
    expect(heard.text).toBe("abcdef");
  });

  test("a GET brings what was not received yet, again where it has to", async () => {
    const { transfer, channel } = await opened();
    const waiting = get(transfer, 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await channel.send([Buffer.from("abc"), Buffer.from("def")]);
    expect(await waiting).toMatchObject({
      status: 200,
      text: "abcdef",
      headers: { "tensorwire-offset": "0" },
    });
    expect(await get(transfer, 0)).toMatchObject({ text: "abcdef", headers: { "tensorwire-offset": "0" } });
    expect(await get(transfer, 4)).toMatchObject({ text: "ef", headers: { "tensorwire-offset": "4" } });
    await channel.send([Buffer.from("g".repeat(5000))]);
    const bounded = await get(transfer, 6, { "tensorwire-most": "4096" });
    expect(bounded.text).toBe("g".repeat(4096));
  });

  test("a GET of what its peer has had already brings what comes next, and nothing that lies where that was", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("a".repeat(1000))]);
    expect((await get(transfer, 0)).text).toHaveLength(1000);
    await ask(transfer, "HEAD", { "tensorwire-received": "1000" });
    const next = "b".repeat(300_000);
    await channel.send([Buffer.from(next)]);
    // One that was under way when another said more, or one that asks for what has been in that memory.
    const late = await get(transfer, 0, { "tensorwire-most": String(8 * MiB) });
    expect(late.headers).toMatchObject({ "tensorwire-offset": "1000" });
    expect(late.text === next).toBe(true);
  });

  test("a GET begins at the place it names, behind what an answer under way brings", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("abcdef")]);
    const ahead = await get(transfer, 0, { "tensorwire-from": "4" });
    expect(ahead).toMatchObject({ status: 200, text: "ef", headers: { "tensorwire-offset": "4" } });
    expect(await get(transfer, 0), "the first are kept until they were received").toMatchObject({
      text: "abcdef",
    });
    expect(await get(transfer, 2, { "tensorwire-from": "1" }), "received meanwhile").toMatchObject({
      text: "cdef",
      headers: { "tensorwire-offset": "2" },
    });
    expect((await get(transfer, 0, { "tensorwire-from": "7" })).status, "nobody has said 7").toBe(400);
    const next = get(transfer, 0, { "tensorwire-from": "6" });
    await channel.send([Buffer.from("ghi")]);
    expect(await next).toMatchObject({ text: "ghi", headers: { "tensorwire-offset": "6" } });
  });

  test("the second of two answers is read after the first, whichever comes first; a broken one takes it along", async () => {
    const froms: string[] = [];
    const held = new Set<ServerResponse>();
    const text = "0123456789".repeat(1000);
    let breaks = 1;
    const url = await serving(
      createServer((incoming, response) => {
        const { method, headers } = incoming;
        const answer = (from: number, body: string, last = false): void => {
          response.writeHead(200, {
            "tensorwire-offset": from,
            "tensorwire-received": 0,
            "content-length": body.length,
            ...(last && { "tensorwire-end": "complete" }),
          });
          response.flushHeaders();
          if (from > 0 || last) return void response.end(body);
          // The first is under way for longer than the second.
          response.write(body.slice(0, 10));
          held.add(response);
        };
        incoming.resume();
        if (method === "POST") {
          return void response
            .writeHead(201, { "content-type": TYPE, location: `/transfer?tensorwire=${"0".repeat(32)}` })
            .end();
        }
        if (method !== "GET") return void response.writeHead(method === "DELETE" ? 204 : 200).end();
        const from = Number(headers["tensorwire-from"]);
        froms.push(`${headers["tensorwire-received"]}+${from}`);
        if (from === 0) return answer(0, text.slice(0, 4000));
        if (from >= text.length) return answer(from, "", true);
        answer(from, text.slice(from, from + 4000));
        for (const first of held) {
          held.delete(first);
          if (breaks-- > 0) setTimeout(() => first.destroy(), 50);
          else setTimeout(() => first.end(text.slice(10, 4000)), 50);
        }
      }),
    );
    const channel = await dialHttp(url);
    closers.push(() => channel.close(new Error("the test is over")));
    let heard = "";
    const end = await new Promise((resolve) =>
      channel.open({ bytes: (portion) => void (heard += Buffer.from(portion).toString()), end: resolve }),
    );
    expect(end).toBeUndefined();
    expect(heard === text).toBe(true);
    expect(froms.slice(0, 3)).toEqual(["0+0", "0+4000", "10+10"]);
  });

  test("the answer to a PUT brings along what no GET has been given", async () => {
    const { transfer, channel } = await opened();
    await channel.send([Buffer.from("abc")]);
    expect(await put(transfer, 0, "x")).toMatchObject({ text: "abc", headers: { "tensorwire-offset": "0" } });
    expect(await put(transfer, 1, "y", { "tensorwire-received": "0" })).toMatchObject({ text: "" });
    expect(await get(transfer, 0)).toMatchObject({ text: "abc" });
  });

  test("both directions end, and then nobody knows the URL", async () => {
    const { transfer, channel, heard } = await opened();
    await put(transfer, 0, "last", { "tensorwire-end": "complete" });
    expect(heard).toEqual({ text: "last", end: "orderly" });
    const left = channel.close();
    expect(await get(transfer, 0)).toMatchObject({ status: 200, headers: { "tensorwire-end": "complete" } });
    await left;
    expect(await ask(transfer, "DELETE", { "tensorwire-received": "0" })).toMatchObject({ status: 204 });
    for (const method of ["GET", "HEAD", "PUT", "DELETE"] as const) {
      expect(
        await ask(transfer, method, { "tensorwire-received": "0", "tensorwire-offset": "4" }),
      ).toMatchObject({
        status: 404,
      });
    }
  });

  test("a DELETE before the end drops the channel", async () => {
    const { transfer, heard } = await opened();
    await put(transfer, 0, "abc");
    await ask(transfer, "DELETE", { "tensorwire-received": "0" });
    expect(heard.end).toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("a peer is gone when an answer that it waits for cannot be given, and nothing else comes", async () => {
    // Over connections that were never meant to last: their end says nothing.
    const connection = "close";
    const { transfer, channel, heard } = await opened({ connection });
    const waiting = httpGet(transfer, {
      headers: { connection, "tensorwire-received": "0" },
      agent: false,
    }).on("error", () => {});
    await new Promise((resolve) => setTimeout(resolve, 100));
    waiting.destroy();
    while (!heard.end) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(heard.end).toMatchObject({ code: "CHANNEL_CLOSED" });
    await expect(channel.send([Buffer.from("x")])).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(await get(transfer, 0)).toMatchObject({ status: 404 });
  });

  test("what is no request of a channel is refused, and does nothing", async () => {
    const { transfer, heard } = await opened();
    for (const headers of [
      {},
      { "tensorwire-received": "-1" },
      { "tensorwire-received": "1" },
      { "tensorwire-received": "9".repeat(16) },
    ]) {
      expect(await ask(transfer, "GET", headers as Record<string, string>)).toMatchObject({ status: 400 });
    }
    for (const offset of ["", "-1", "1e3", "9".repeat(17)]) {
      const headers = { "tensorwire-received": "0", "tensorwire-offset": offset };
      expect(await ask(transfer, "PUT", headers, "abc")).toMatchObject({ status: 400 });
    }
    expect(await ask(transfer, "POST", { "tensorwire-received": "0" })).toMatchObject({ status: 405 });
    expect(heard).toEqual({ text: "" });
  });

  test("a connection that outlives many channels keeps nothing of them", async () => {
    const { url, server } = await mounted();
    const sockets: Socket[] = [];
    server.on("connection", (socket) => sockets.push(socket));
    const before: number[] = [];
    for (let i = 0; i < 20; i++) {
      const transfer = await created(url);
      expect((await ask(transfer, "DELETE", { "tensorwire-received": "0" })).status).toBe(204);
      before.push(Math.max(...sockets.map((socket) => socket.listenerCount("close"))));
    }
    expect(sockets.length).toBeLessThan(20);
    expect(before.at(-1)).toBe(before[0]);
  });

  test("more PUTs than a peer has under way are answered at once", async () => {
    const { transfer, heard } = await opened();
    const early = [1, 2, 3, 4].map((offset) => put(transfer, offset, "bcde"[offset - 1]!));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await put(transfer, 5, "f")).toMatchObject({ status: 409 });
    await put(transfer, 0, "a");
    for (const answer of await Promise.all(early)) expect(answer.status).toBe(200);
    expect(heard.text).toBe("abcde");
  });
});

describe("a server of HTTP channels", () => {
  test("leaves alone what is none of theirs", async () => {
    const { url } = await mounted();
    for (const [method, headers] of [
      ["GET", {}],
      ["POST", {}],
      ["POST", { "content-type": "application/json" }],
      ["PUT", { "tensorwire-offset": "0" }],
    ] as const) {
      expect(await ask(url, method, headers)).toMatchObject({ status: 200, text: "something else" });
    }
  });

  test("keeps the query that it was asked with", async () => {
    const { url } = await mounted();
    const transfer = new URL(await created(`${url}/deep/er?site=3&x=a%20b`));
    expect(transfer.pathname).toBe("/deep/er");
    expect([transfer.searchParams.get("site"), transfer.searchParams.get("x")]).toEqual(["3", "a b"]);
    expect(transfer.searchParams.get("tensorwire")).toMatch(/^[0-9a-f]{32}$/);
  });

  test("knows a transfer URL only together with the credential that it was made with", async () => {
    const { url, channels } = await mounted();
    const authorization = "Bearer secret";
    const transfer = await created(url, { authorization });
    channels[0]!.open({ bytes: () => {}, end: () => {} });
    for (const other of [{}, { authorization: "Bearer other" }]) {
      expect(await put(transfer, 0, "abc", other as Record<string, string>)).toMatchObject({ status: 404 });
    }
    expect(await put(transfer, 0, "abc", { authorization })).toMatchObject({ status: 200 });
    const wrong = transfer.replace(/[0-9a-f]$/, (digit) => (digit === "0" ? "1" : "0"));
    expect(await put(wrong, 0, "abc", { authorization })).toMatchObject({ status: 404 });
  });

  test("has so many channels and no more, and room again when one is over", async () => {
    const { url, channels } = await mounted({}, { maxChannels: 2 });
    await created(url);
    const second = await created(url);
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "SERVER_BUSY", retryable: true });
    for (const channel of channels) channel.open({ bytes: () => {}, end: () => {} });
    await ask(second, "DELETE", { "tensorwire-received": "0" });
    await created(url);
  });

  test("turns a peer away while its visitors are full", async () => {
    const { url } = await mounted({ full: true });
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
  });

  test.each([
    ["UNAUTHORIZED", 401],
    ["FORBIDDEN", 403],
    ["NOT_FOUND", 404],
    ["SERVER_BUSY", 503],
  ] as [ErrorCode, number][])(
    "answers %s with %d, and the client has the code again",
    async (code, status) => {
      const admit = async (): Promise<void> => {
        throw new TensorwireError(code, "not you");
      };
      const { url, channels } = await mounted({ admit });
      expect(await ask(url, "POST", { "content-type": TYPE })).toMatchObject({ status, text: "" });
      await expect(dialHttp(url)).rejects.toMatchObject({ code });
      await expect(receiveModel(url, { to: nowhere }).done).rejects.toMatchObject({ code });
      expect(channels).toEqual([]);
    },
  );

  test("says who comes, for HTTP and for WebSockets", async () => {
    const seen: unknown[] = [];
    const { url } = await mounted({ admit: (peer) => void seen.push(peer) });
    await created(`${url}/models/a?b`, { authorization: "Bearer abc.def" });
    await created(url, { "x-forwarded-for": "10.0.0.1" });
    await created(url, { "x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https" });
    const address = expect.stringMatching(/^127\.0\.0\.1:\d+$/);
    expect(seen).toEqual([
      { address, credential: "abc.def", path: "/models/a", query: "b", private: true },
      { address, path: "/", forwarded: true, private: false },
      { address, path: "/", forwarded: true, private: true },
    ]);
    const listener = await listening("ws://127.0.0.1:0");
    const taken = new AbortController();
    const accepted = new Promise<Channel>((resolve) => void listener.each(resolve, taken.signal));
    const socket = new WebSocket(`${listener.url}/m?x`, { headers: { authorization: "bearer token" } });
    closers.push(() => socket.terminate());
    await once(socket, "open");
    expect((await accepted).peer).toEqual({
      address,
      credential: "token",
      path: "/m",
      query: "x",
      private: true,
    });
    taken.abort();
  });
});

async function listening(url: string): Promise<Listener> {
  const listener = await listen({ url });
  closers.push(() => listener.close());
  return listener;
}

describe("a channel", () => {
  test.each(["pushed", "pulled"])("outlives its connections: a model is %s while they break", async (way) => {
    const listener = await listening("http://127.0.0.1:0");
    const relay = await Relay.to(listener.url);
    closers.push(() => relay.die());
    relay.cutting = { way: way === "pushed" ? "toServer" : "toClient", everyBytes: 1.3 * MiB };
    const url = `http://127.0.0.1:${relay.port}`;
    const [to, from] = way === "pushed" ? [url, listener] : [listener, url];
    const received = receiveModel(from, { to: nowhere }).done;
    const sent = await streamModel(model, to);
    expect((await received).digest).toBe(sent.digest);
    expect(relay.cuts).toBeGreaterThan(10);
  });

  test("outlives a server that closes its idle connections as fast as it can", async () => {
    const { url, channels, server } = await mounted();
    server.keepAliveTimeout = 1;
    const client = await dialHttp(url);
    let heard = "";
    let expected = "";
    channels[0]!.open({ bytes: (portion) => void (heard += Buffer.from(portion).toString()), end: () => {} });
    client.open({ bytes: () => {}, end: () => {} });
    closers.push(() => client.close(new Error("the test is over")));
    for (let i = 0; i < 100; i++) {
      const text = `${i} `;
      expected += text;
      await client.send([Buffer.from(text)]);
      await new Promise((resolve) => setTimeout(resolve, i % 5));
    }
    while (heard.length < expected.length) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(heard).toBe(expected);
  });

  test("of a listener that was closed goes on to its end, and then the place is free", async () => {
    const listener = await listening("http://127.0.0.1:0");
    const received = receiveModel(listener, { to: nowhere });
    const sending = streamModel(model, listener.url);
    await received.manifest;
    await listener.close();
    await expect(dialHttp(listener.url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect((await received.done).digest).toBe((await sending).digest);
    for (;;) {
      const again = await listen({ url: listener.url }).catch(() => undefined);
      if (again) return again.close();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
});

describe("a URL", () => {
  /** The bytes of an artifact. */
  async function artifact(): Promise<Buffer> {
    const portions: Uint8Array[] = [];
    const [there, here] = memoryChannelPair();
    here.open({ bytes: (portion) => void portions.push(portion.slice()), end: () => {} });
    await streamModel(model, Object.assign(there, { direction: "send" }));
    return Buffer.concat(portions);
  }

  test.each([404, 405, 501, 400, 200, 303, 403])(
    "of a file server that answers POST with %d is fetched by a plain GET, and cannot be sent to",
    async (status) => {
      const bytes = await artifact();
      const url = await serving(
        createServer((incoming, response) => {
          // A redirection is one for POST alone: whoever follows it asks for what is elsewhere.
          if (incoming.method === "GET" || (status === 303 && incoming.method === "HEAD")) {
            return response.end(bytes);
          }
          response.writeHead(status, status === 303 ? { location: "/elsewhere" } : {}).end("no");
        }),
      );
      const summary = await receiveModel(`${url}/models/latest`, { to: nowhere }).done;
      expect(summary).toMatchObject({ confirmed: false, sourceBytes: 24 * MiB });
      await expect(streamModel(model, url)).rejects.toMatchObject({
        code: "CHANNEL_OPEN",
        retryable: status >= 500,
      });
    },
  );

  test("that ends in .twire is fetched without asking", async () => {
    const bytes = await artifact();
    const methods: string[] = [];
    const url = await serving(
      createServer((incoming, response) => {
        methods.push(incoming.method!);
        response.end(bytes);
      }),
    );
    await receiveModel(`${url}/m.twire?version=3`, { to: nowhere }).done;
    // No channel is offered, by POST: it is a file.
    expect(new Set(methods)).toEqual(new Set(["HEAD", "GET"]));
  });

  test("of a transfer elsewhere is not followed", async () => {
    const url = await serving(
      createServer((_, response) =>
        response.writeHead(201, { "content-type": TYPE, location: "http://127.0.0.1:1/?tensorwire=a" }).end(),
      ),
    );
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
  });

  test("where nobody listens is CHANNEL_OPEN; a signal ends the wait", async () => {
    const silent = await serving(createServer(() => {}));
    const abort = new AbortController();
    const sending = streamModel(model, silent, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error("enough")), 50);
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    const { url } = await listen({ url: "http://127.0.0.1:0" }).then(async (listener) => {
      await listener.close();
      return listener;
    });
    await expect(streamModel(model, url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: true });
  });
});
