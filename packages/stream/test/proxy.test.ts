import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type Listener,
  type ListenOptions,
  listen,
  receiveModel,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { proxyFor } from "../src/channel/proxy.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { ForwardProxy } from "./forward-proxy.js";

const VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [
  name,
  name.toLowerCase(),
]);
const before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
const closers: (() => unknown)[] = [];
beforeEach(() => {
  for (const name of VARIABLES) delete process.env[name];
});
afterEach(async () => {
  for (const name of VARIABLES) {
    if (before[name] === undefined) delete process.env[name];
    else process.env[name] = before[name];
  }
  for (const close of closers.splice(0).reverse()) await close();
});

const model: TensorMap = { w: { dtype: "F32", shape: [300_000], data: new Float32Array(300_000).fill(0.5) } };
const nowhere = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

async function proxying(credential?: string): Promise<ForwardProxy> {
  const proxy = await ForwardProxy.open(credential);
  closers.push(() => proxy.close());
  return proxy;
}

/** A listener, and its URL under a name that only a proxy of ours knows. */
async function listening(options: ListenOptions): Promise<{ listener: Listener; url: string }> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return { listener, url: listener.url.replace("127.0.0.1", "model.example") };
}

/** Sends a model there and fetches one from there. */
async function bothWays({ listener, url }: { listener: Listener; url: string }, ca?: string): Promise<void> {
  const dial = ca === undefined ? {} : { tls: { ca } };
  const received = receiveModel(listener, { to: nowhere }).done;
  await streamModel(model, url, { dial });
  await received;
  const sent = streamModel(model, listener);
  await receiveModel(url, { to: nowhere, dial }).done;
  await sent;
}

const { ca, server } = hasOpenssl ? makeAuthority() : ({} as never);

describe.runIf(hasOpenssl)("HTTPS_PROXY leads to other machines", () => {
  test.each(["https://127.0.0.1:0", "wss://127.0.0.1:0"])("%s: by a tunnel", async (url) => {
    const proxy = await proxying();
    process.env.HTTPS_PROXY = `http://${proxy.host}`;
    const at = await listening({ url, tls: server });
    await bothWays(at, ca);
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${new URL(at.url).host}`]));
  });

  test.each(["https://127.0.0.1:0", "wss://127.0.0.1:0"])(
    "%s: with the credential in its URL",
    async (url) => {
      const proxy = await proxying("me:p@ss w0rd");
      const at = await listening({ url, tls: server });
      process.env.HTTPS_PROXY = `http://me:${encodeURIComponent("p@ss w0rd")}@${proxy.host}`;
      await bothWays(at, ca);
      for (const credential of ["", "me:wrong@"]) {
        process.env.HTTPS_PROXY = `http://${credential}${proxy.host}`;
        const refused = streamModel(model, at.url, { dial: { tls: { ca } } });
        await expect(refused).rejects.toMatchObject({
          code: "CHANNEL_OPEN",
          message: expect.stringContaining("407"),
        });
      }
    },
  );

  test.each(["https://127.0.0.1:0", "wss://127.0.0.1:0"])(
    "%s: the server's certificate is checked",
    async (url) => {
      const proxy = await proxying();
      process.env.HTTPS_PROXY = `http://${proxy.host}`;
      const at = await listening({ url, tls: server });
      for (const name of ["model.example", "other.example"]) {
        const there = at.url.replace("model.example", name);
        const dial = name === "model.example" ? {} : { tls: { ca } };
        await expect(streamModel(model, there, { dial })).rejects.toMatchObject({
          code: "CHANNEL_OPEN",
          retryable: false,
        });
      }
    },
  );
});

describe("HTTP_PROXY", () => {
  test("makes the requests of http: for us", async () => {
    const proxy = await proxying("me:secret");
    process.env.HTTP_PROXY = `http://me:secret@${proxy.host}`;
    const at = await listening({ url: "http://127.0.0.1:0" });
    await bothWays(at);
    const { host } = new URL(at.url);
    expect(proxy.asked).toEqual(
      expect.arrayContaining([`POST ${host}`, `PUT ${host}`, `GET ${host}`, `DELETE ${host}`]),
    );
  });

  test("makes a tunnel for ws:", async () => {
    const proxy = await proxying("me:secret");
    process.env.HTTP_PROXY = `http://me:secret@${proxy.host}`;
    const at = await listening({ url: "ws://127.0.0.1:0" });
    await bothWays(at);
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${new URL(at.url).host}`]));
  });

  test("fetches files", async () => {
    const proxy = await proxying();
    process.env.HTTP_PROXY = `http://${proxy.host}`;
    const files = createServer((_, response) => response.writeHead(404).end()).listen(0, "127.0.0.1");
    closers.push(() => files.close());
    await new Promise((resolve) => files.once("listening", resolve));
    const { port } = files.address() as { port: number };
    const { done } = receiveModel(`http://model.example:${port}/m.twire`, { to: nowhere });
    await expect(done).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("404"),
    });
    expect(proxy.asked).toEqual([`HEAD model.example:${port}`, `GET model.example:${port}`]);
  });
});

describe("which proxy", () => {
  const found = (url: string): string | undefined => proxyFor(new URL(url))?.href;

  test("the scheme decides; a WebSocket is an HTTP connection", () => {
    process.env.HTTP_PROXY = "http://plain:1";
    process.env.HTTPS_PROXY = "http://secure:2";
    expect(found("http://a.example")).toBe("http://plain:1/");
    expect(found("ws://a.example:8")).toBe("http://plain:1/");
    expect(found("https://a.example")).toBe("http://secure:2/");
    expect(found("wss://a.example/x?y")).toBe("http://secure:2/");
    delete process.env.HTTPS_PROXY;
    process.env.ALL_PROXY = "https://all:3";
    expect(found("wss://a.example")).toBe("https://all:3/");
  });

  test("none for what NO_PROXY names", () => {
    process.env.HTTPS_PROXY = "http://secure:2";
    process.env.NO_PROXY = "a.example, .b.example,c.example:8443";
    for (const url of [
      "https://a.example",
      "wss://a.example:99",
      "https://x.b.example",
      "wss://c.example:8443",
    ]) {
      expect(found(url), url).toBeUndefined();
    }
    for (const url of ["https://x.a.example", "https://c.example", "https://d.example"]) {
      expect(found(url), url).toBe("http://secure:2/");
    }
    process.env.NO_PROXY = "*";
    expect(found("https://d.example")).toBeUndefined();
  });

  test("none for this machine's loopback", () => {
    process.env.ALL_PROXY = "http://all:3";
    for (const host of ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
      expect(found(`http://${host}:8`)).toBeUndefined();
  });

  test("a variable that holds none is an argument at fault, and not shown", () => {
    for (const value of ["http://[", "socks5://user:secret@host:1"]) {
      process.env.HTTPS_PROXY = value;
      expect(() => found("https://a.example")).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.not.stringContaining("secret") }),
      );
    }
  });
});
