import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { createHash } from "node:crypto";
import { type ChannelPeer, FrameType } from "@tensorwire/core";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { socketPeer } from "../src/channel/peer.js";
import { hostOf } from "../src/channel/peer.js";
import {
  type Authorize,
  bearerTokens,
  dialTcp,
  duplexChannel,
  type Listener,
  type ListenOptions,
  listen,
  memoryChannelPair,
  receiveModel,
  streamModel,
  type TensorMap,
  webSocketChannel,
} from "../src/index.js";
import { type Authority, hasOpenssl, makeAuthority } from "./certificates.js";
import { ScriptedPeer } from "./scripted-peer.js";

const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };
const TOKEN = "a-token/of+visible~characters=";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "tensorwire-door-"));
  closers.push(() => rm(path, { recursive: true }));
  return path;
}

async function listening(options: ListenOptions): Promise<Listener> {
  const listener = await listen(options);
  closers.push(() => listener.close());
  return listener;
}

const nowhere = () => ({
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
});

/** Receives whatever the listener lets in, until it is stopped. */
function receiving(listener: Listener): Promise<unknown> {
  const stop = new AbortController();
  closers.push(() => stop.abort());
  const { done } = receiveModel(listener, { to: nowhere(), signal: stop.signal });
  done.catch(() => {});
  return done;
}

/** Lets in who shows the token, and remembers who came. */
function doorkeeper(): { authorize: Authorize; seen: [string | undefined, ChannelPeer][] } {
  const seen: [string | undefined, ChannelPeer][] = [];
  const authorize: Authorize = (credential, peer) => {
    seen.push([credential, peer]);
    return credential === TOKEN ? { name: "somebody" } : undefined;
  };
  return { authorize, seen };
}

const places = async (): Promise<string[]> => [
  "ws://127.0.0.1:0",
  "http://127.0.0.1:0",
  "tcp://127.0.0.1:0",
  `unix:${await folder()}/s`,
];

describe("a listener that asks for a credential", () => {
  test("is shown the token over every channel, and takes the model", async () => {
    for (const url of await places()) {
      const { authorize, seen } = doorkeeper();
      const listener = await listening({ url, authorize });
      const done = receiving(listener);
      await streamModel(model, listener.url, { dial: { token: TOKEN } });
      await done;
      expect(seen, url).toHaveLength(1);
      expect(seen[0]![0], url).toBe(TOKEN);
      expect(seen[0]![1].private, url).toBe(true);
      expect(seen[0]![1].address).toMatch(url.startsWith("unix") ? /^unix$/ : /^127\.0\.0\.1:\d+$/);
    }
  });

  test("refuses whoever shows none, or a wrong one, with UNAUTHORIZED, and goes on", async () => {
    for (const url of await places()) {
      const { authorize } = doorkeeper();
      const listener = await listening({ url, authorize });
      const done = receiving(listener);
      for (const token of [undefined, "wrong", `${TOKEN}x`, "x".repeat(8192)]) {
        const sent = streamModel(model, listener.url, { dial: { token } });
        await expect(sent, `${url} ${token}`).rejects.toMatchObject({
          code: "UNAUTHORIZED",
          retryable: false,
        });
      }
      await streamModel(model, listener.url, { dial: { token: TOKEN } });
      await done;
    }
  });

  test("refuses whoever comes while authorize throws, rejects, or gives something else, and does not tell why", async () => {
    const answers: Authorize[] = [
      () => {
        throw new Error("the database has a password");
      },
      () => Promise.reject(new Error("the database has a password")),
      (() => true) as unknown as Authorize,
      (() => ({})) as unknown as Authorize,
      (() => null) as unknown as Authorize,
    ];
    for (const authorize of answers) {
      for (const url of ["tcp://127.0.0.1:0", "ws://127.0.0.1:0"]) {
        const listener = await listening({ url, authorize });
        receiving(listener);
        const error = await streamModel(model, listener.url, { dial: { token: TOKEN } }).catch(
          (error) => error,
        );
        expect(error).toMatchObject({ code: "UNAUTHORIZED" });
        expect(error.message).not.toContain("password");
      }
    }
  });

  test("waits for an answer that takes its time, and acts on nothing before it", async () => {
    let answer!: () => void;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    const listener = await listening({
      url: "tcp://127.0.0.1:0",
      authorize: async () => {
        await answered;
        return { name: "somebody" };
      },
    });
    const done = receiving(listener);
    const peer = new ScriptedPeer(await dialTcp(listener.url));
    await peer.hello("send", { credential: TOKEN });
    await peer.say(FrameType.MANIFEST, JSON.stringify({ nonsense: true }));
    await new Promise((resolve) => setTimeout(resolve, 100));
    // Not even a HELLO, let alone a word about the manifest.
    expect(peer.heard).toEqual([]);
    answer();
    await expect(done).rejects.toMatchObject({ code: "MANIFEST_INVALID" });
    expect(peer.heard.map(({ type }) => type)).toEqual([FrameType.HELLO, FrameType.ERROR]);
  });

  test("asks once: a credential in HELLO does not replace the header's", async () => {
    const { authorize, seen } = doorkeeper();
    const listener = await listening({ authorize });
    const done = receiving(listener);
    const open = async (token: string) => {
      const socket = new WebSocket(listener.url, { headers: { authorization: `Bearer ${token}` } });
      socket.on("error", () => {});
      closers.push(() => socket.terminate());
      const outcome = await new Promise((resolve) => {
        socket.once("open", () => resolve("open"));
        socket.once("close", () => resolve("closed"));
      });
      return { outcome, socket };
    };
    expect((await open("wrong")).outcome).toBe("closed");
    const { outcome, socket } = await open(TOKEN);
    expect(outcome).toBe("open");
    const peer = new ScriptedPeer(webSocketChannel(socket));
    await peer.hello("receive", { credential: "wrong" });
    expect(await peer.hears(FrameType.ERROR)).toBeDefined();
    expect(seen.map(([credential]) => credential)).toEqual(["wrong", TOKEN]);
    await streamModel(model, listener.url, { dial: { token: TOKEN } });
    await done;
  });

  test("is told of no credential in errors, and tells none in its own", async () => {
    const listener = await listening({ url: "tcp://127.0.0.1:0", authorize: () => undefined });
    const done = receiving(listener);
    const secret = "sEcReT";
    const errors: unknown[] = [
      await streamModel(model, listener.url, { dial: { token: secret } }).catch((e) => e),
    ];
    for (const credential of [7 as unknown as string, { secret } as unknown as string, secret.repeat(2000)]) {
      const peer = new ScriptedPeer(await dialTcp(listener.url));
      await peer.hello("send", { credential });
      const body = await peer.hears(FrameType.ERROR);
      errors.push(Buffer.from(body!).toString());
    }
    const tokens = { a: { token: `${secret} ` }, b: { token: secret } };
    errors.push(await bearerTokens(tokens).catch((error) => error));
    errors.push(await bearerTokens({ a: { token: secret }, b: { token: secret } }).catch((error) => error));
    errors.push(
      await bearerTokens({ a: { token: { secret } as unknown as string } }).catch((error) => error),
    );
    for (const url of [
      `ws://user:${secret}@127.0.0.1:1/?key=${secret}`,
      `http://user:${secret}@127.0.0.1:1/?key=${secret}`,
    ]) {
      errors.push(await streamModel(model, url).catch((error) => error));
    }
    for (const error of errors) {
      expect(error).toSatisfy((each) => typeof each === "string" || each instanceof Error);
      for (let each = error; each; each = (each as Error).cause) {
        expect(String((each as Error).stack ?? each)).not.toContain(secret);
      }
    }
    await expect(Promise.race([done, "still waiting"])).resolves.toBe("still waiting");
  });
});

describe("a token is never shown in clear text beyond loopback", () => {
  const far = [
    "ws://192.0.2.1:9",
    "http://192.0.2.1:9",
    "tcp://192.0.2.1:9",
    "ws://model.invalid",
    "tcp://localhost.invalid:9",
  ];
  test.each(far)("not over %s", async (url) => {
    const dial = { token: TOKEN };
    await expect(streamModel(model, url, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const { done } = receiveModel(url, { dial, to: nowhere() });
    await expect(done).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("not over streams of which nobody knows where they lead, nor to a socket over the network", async () => {
    const streams = { readable: new PassThrough(), writable: new PassThrough() };
    const dial = { token: TOKEN };
    await expect(streamModel(model, streams, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const address = Object.values(networkInterfaces())
      .flat()
      .find((each) => each && !each.internal && each.family === "IPv4")?.address;
    if (!address) return console.log("SKIPPED: needs a network interface beside loopback");
    const server = createServer((socket) => void socket.on("error", () => {})).listen(0, address);
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const channel = await dialTcp(`tcp://${address}:${port}`);
    closers.push(() => channel.close(new Error("over")));
    expect(channel.peer).toMatchObject({ private: false });
    await expect(streamModel(model, channel, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("not into an artifact, nor by a listener, nor by an open WebSocket", async () => {
    const at = await folder();
    const path = join(at, "model.twire");
    const dial = { token: TOKEN };
    await expect(streamModel(model, path, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await readdir(at)).toEqual([]);
    const listener = await listening({});
    await expect(streamModel(model, listener, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const socket = new WebSocket(listener.url);
    socket.on("error", () => {});
    closers.push(() => socket.terminate());
    await expect(streamModel(model, socket, { dial })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("but within this process, where it is", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const stop = new AbortController();
    const sent = streamModel(model, a, { dial: { token: TOKEN }, signal: stop.signal });
    const hello = JSON.parse(Buffer.from((await peer.hears(FrameType.HELLO))!).toString());
    expect(hello.credential).toBe(TOKEN);
    stop.abort();
    await expect(sent).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("and one that is none is refused, without being repeated", async () => {
    for (const token of ["", "a b", "a\nb", "é", "x".repeat(8193)]) {
      for (const url of ["ws://127.0.0.1:9", "tcp://127.0.0.1:9", "http://127.0.0.1:9"]) {
        const error = await streamModel(model, url, { dial: { token } }).catch((error) => error);
        expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
      }
    }
  });
});

describe.runIf(hasOpenssl)("with TLS", () => {
  let authority: Authority;
  beforeAll(() => {
    authority = makeAuthority();
  });

  test("a listener with authorize may stand beyond loopback, and in clear text may not", async () => {
    const { authorize } = doorkeeper();
    const { ca, server } = authority;
    for (const scheme of ["wss", "tls", "https"]) {
      const listener = await listening({ url: `${scheme}://0.0.0.0:0`, tls: server, authorize });
      const done = receiving(listener);
      const url = listener.url.replace("0.0.0.0", "127.0.0.1");
      await expect(streamModel(model, url, { dial: { tls: { ca } } })).rejects.toMatchObject({
        code: "UNAUTHORIZED",
      });
      await streamModel(model, url, { dial: { tls: { ca }, token: TOKEN } });
      await done;
    }
    for (const scheme of ["ws", "tcp", "http"]) {
      const clear = listen({ url: `${scheme}://0.0.0.0:0`, authorize });
      await expect(clear).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("clear text"),
      });
      await listening({ url: `${scheme}://0.0.0.0:0`, authorize, insecure: true });
    }
  });

  test("authorize is told the subject of the certificate that was verified, and of no other", async () => {
    const { ca, server, client } = authority;
    for (const scheme of ["wss", "tls", "https"]) {
      const subjects: unknown[] = [];
      const listener = await listening({
        url: `${scheme}://127.0.0.1:0`,
        // Whoever has none may come too, and one that nobody vouches for is none.
        tls: { ...server, ca, rejectUnauthorized: false },
        authorize: (_credential, { subject }) => {
          subjects.push(subject);
          return subject === "CN=client" ? { name: subject } : undefined;
        },
      });
      const done = receiving(listener);
      const stranger = makeAuthority().client;
      for (const tls of [{ ca }, { ca, ...stranger }]) {
        const sent = streamModel(model, listener.url, { dial: { tls } });
        await expect(sent, scheme).rejects.toMatchObject({ code: "UNAUTHORIZED" });
      }
      await streamModel(model, listener.url, { dial: { tls: { ca, ...client } } });
      await done;
      expect(subjects, scheme).toEqual([undefined, undefined, "CN=client"]);
    }
  });
});

describe("bearerTokens", () => {
  const peer: ChannelPeer = { address: "127.0.0.1:1", private: true };
  const sha256 = createHash("sha256").update("second").digest("hex");

  test("knows tokens, or their digests, with what their principals may do", async () => {
    for (const tokens of [
      { a: { token: "first", publish: true }, b: { sha256, fetch: ["x/*"] } },
      new Map([
        ["a", { token: "first", publish: true }],
        ["b", { sha256, fetch: ["x/*"] }],
      ]),
    ]) {
      const authorize = await bearerTokens(tokens);
      expect(await authorize("first", peer)).toEqual({ name: "a", publish: true });
      expect(await authorize("second", peer)).toEqual({ name: "b", fetch: ["x/*"] });
      for (const credential of [undefined, "", "firs", "firstx", "FIRST", sha256, "a"]) {
        expect(await authorize(credential, peer)).toBe(undefined);
      }
    }
  });

  test("reads a file again when it changes, and lets nobody in while it cannot be used", async () => {
    const path = join(await folder(), "tokens.json");
    await writeFile(path, JSON.stringify({ a: { token: "first" } }));
    const authorize = await bearerTokens(path);
    expect(await authorize("first", peer)).toEqual({ name: "a" });
    await writeFile(path, JSON.stringify({ a: { token: "another" } }));
    expect(await authorize("first", peer)).toBe(undefined);
    expect(await authorize("another", peer)).toEqual({ name: "a" });
    await writeFile(path, "{");
    await expect(Promise.resolve(authorize("another", peer))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await rm(path);
    await expect(Promise.resolve(authorize("another", peer))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await writeFile(path, JSON.stringify({ a: { token: "third" } }));
    expect(await authorize("third", peer)).toEqual({ name: "a" });
  });

  test("refuses lists that are none", async () => {
    const lists: unknown[] = [
      { a: {} },
      { a: { token: "x", sha256 } },
      { a: { token: "" } },
      { a: { sha256: "abc" } },
      { a: { token: "x", publish: "all" } },
      { a: { token: "x", admin: true } },
      { a: { token: "x" }, b: { token: "x" } },
      { "": { token: "x" } },
      [],
      "no such file",
    ];
    for (const list of lists) {
      await expect(bearerTokens(list as never), JSON.stringify(list)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });
});

describe("who a peer is", () => {
  test("counts by host, and of IPv6 by network", () => {
    const host = (address: string) => hostOf({ address, private: false });
    expect(host("192.0.2.7:1234")).toBe("192.0.2.7");
    expect(host("unix")).toBe("unix");
    expect(host("[2001:db8:1:2:3:4:5:6]:80")).toBe(host("[2001:db8:1:2::9]:443"));
    expect(host("[2001:db8:1:2::1]:80")).not.toBe(host("[2001:db8:1:3::1]:80"));
    expect(host("[::1]:80")).toBe("0:0:0:0::/64");
  });

  test("of a socket that is not connected is not known, and no place for a token", () => {
    const streams = new PassThrough();
    expect(duplexChannel(streams).peer).toBe(undefined);
    expect(socketPeer(new Socket())).toEqual({ address: "unknown", private: false });
  });
});
