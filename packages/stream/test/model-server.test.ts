import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import {
  bearerTokens,
  createModelServer,
  fromTensors,
  type ModelServer,
  type ModelServerOptions,
  type ModelSink,
  type Refusal,
  receiveModel,
  type ServedTransfer,
  streamModel,
  type TensorMap,
  TensorwireError,
} from "../src/index.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { makeModel } from "./cli-process.js";

const model = (value = 1): TensorMap => ({
  w: { dtype: "F32", shape: [1000], data: new Float32Array(1000).fill(value) },
});

let folder: string;
const closers: (() => unknown)[] = [];
const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-server-"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer(options);
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  return server;
}

/** What the model of that URL holds: the first value of each tensor. */
async function fetched(url: string, token?: string): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for await (const { name, data } of receiveModel(url, { dial: { token } })) {
    values[name] = new Float32Array(data.slice().buffer)[0]!;
  }
  return values;
}

describe("a model server", () => {
  test("gives each receiver the model that it asks for by name", async () => {
    const server = await serving();
    server.publish("one", model(1));
    server.publish("two/of it", () => model(2), { codec: "float16", minElements: 0 });
    expect(server.names).toEqual(["one", "two/of it"]);
    expect(server.url).toMatch(/^ws:\/\/127\.0\.0\.1:\d+\/models\/$/);
    expect(server.urlOf("two/of it")).toBe(`${server.url}two/of%20it`);
    const all = await Promise.all([
      fetched(server.urlOf("one")),
      fetched(server.urlOf("two/of it")),
      fetched(server.urlOf("one")),
    ]);
    expect(all).toEqual([{ w: 1 }, { w: 2 }, { w: 1 }]);
    expect(server.unpublish("one")).toBe(true);
    await expect(fetched(server.urlOf("one"))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("writes uploads into its folder, by their names", async () => {
    const server = await serving({ uploads: folder });
    const transfers: ServedTransfer[] = [];
    server.on("transfer", (transfer) => transfers.push(transfer));
    await makeModel(at("source.safetensors"), [{ name: "w", dtype: "F32", shape: [50, 1000] }]);
    await streamModel(at("source.safetensors"), server.urlOf("site-1/round-1.safetensors"));
    const [copy, source] = await Promise.all(
      ["site-1/round-1.safetensors", "source.safetensors"].map((name) => readFile(at(name))),
    );
    expect(copy!.equals(source!)).toBe(true);
    expect(transfers).toMatchObject([{ id: 1, direction: "upload", name: "site-1/round-1.safetensors" }]);
    expect((await transfers[0]!.done).confirmed).toBe(true);
    expect(await readdir(at("site-1"))).toEqual(["round-1.safetensors"]);
  });
});

const TOKENS = {
  reader: { token: "read-me", fetch: ["public/*"] },
  site: { token: "site-token", publish: ["site/*"] },
};

describe("who may do what", () => {
  test("a token gives the rights of its principal, and no others", async () => {
    const server = await serving({ uploads: folder, authorize: await bearerTokens(TOKENS) });
    server.publish("public/a", model());
    server.publish("private", model());
    const { url } = server;
    expect(await fetched(`${url}public/a`, "read-me")).toEqual({ w: 1 });
    await expect(fetched(`${url}public/a`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}public/a`, "wrong")).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}private`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    // Whether there is one is not said to whoever has no right to it.
    await expect(fetched(`${url}nothing`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(fetched(`${url}public/b`, "read-me")).rejects.toMatchObject({ code: "NOT_FOUND" });
    // Nor to one that does not say what it came for.
    const words = [];
    for (const name of ["private", "nothing"]) {
      const socket = new WebSocket(url + name, { headers: { authorization: "Bearer read-me" } });
      const refused = await receiveModel(socket, { to: at("x") }).done.catch(
        (error: TensorwireError) => error,
      );
      expect(refused).toMatchObject({ code: "FORBIDDEN" });
      words.push((refused as TensorwireError).message);
    }
    expect(words[0]).toBe(words[1]);
    const send = (name: string, token: string) => streamModel(model(), url + name, { dial: { token } });
    await expect(send("site/x", "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("other/x", "site-token")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("site/x", "site-token")).resolves.toMatchObject({ confirmed: true });
    expect(await readdir(at("site"))).toEqual(["x"]);
  });
});

describe("one port", () => {
  test("speaks WebSocket and HTTP, and gives a plain GET an artifact", async () => {
    const server = await serving({
      uploads: folder,
      authorize: await bearerTokens({ all: { token: "t", publish: true, fetch: true } }),
    });
    server.publish("a", model(3));
    server.publish("a.twire", model(4), { codec: "float16", minElements: 0 });
    const http = server.url.replace("ws:", "http:");
    const dial = { token: "t" };
    expect(await fetched(`${http}a`, "t")).toEqual({ w: 3 });
    expect(await fetched(`${http}a.twire`, "t")).toEqual({ w: 4 });
    await expect(fetched(`${http}a.twire`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${http}a`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${http}b`, "t")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(fetched(`${http}b.twire`, "t")).rejects.toMatchObject({ code: "NOT_FOUND" });
    const sent = await streamModel(model(5), `${http}up.twire`, { dial });
    expect(sent.confirmed).toBe(true);
    expect(await fetched(at("up.twire"))).toEqual({ w: 5 });
  });
});

/** A sink that takes nothing until it is told to. */
function held(): { sink: ModelSink; release(): void } {
  let release!: () => void;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const sink: ModelSink = {
    name: "a sink that waits",
    parallel: false,
    open: async () => {},
    write: () => released,
    finish: async () => {},
    abort: async () => release(),
  };
  return { sink, release };
}

/** Begins to fetch, and is in the middle of it when this resolves. */
async function fetching(url: string, token?: string): Promise<{ done: Promise<unknown>; release(): void }> {
  const { sink, release } = held();
  const { done, manifest } = receiveModel(url, { to: sink, dial: { token } });
  done.catch(() => {});
  await manifest;
  return { done, release };
}

test.runIf(hasOpenssl)("over TLS, a certificate can say who a peer is", async () => {
  const { ca, server: identity, client } = makeAuthority();
  const server = await serving({
    url: "https://127.0.0.1:0",
    tls: { ...identity, ca },
    authorize: (_credential, { subject }) =>
      subject === "CN=client" ? { name: "client", fetch: true } : undefined,
    uploads: folder,
  });
  server.publish("m", model(8));
  expect(server.url).toMatch(/^wss:/);
  const dial = { tls: { ca, ...client } };
  for (const url of [server.urlOf("m"), server.urlOf("m").replace("wss:", "https:")]) {
    for await (const { data } of receiveModel(url, { dial })) {
      expect(new Float32Array(data.slice().buffer)[0]).toBe(8);
    }
    await expect(streamModel(model(), url, { dial })).rejects.toMatchObject({ code: "FORBIDDEN" });
    const stranger = receiveModel(url, { dial: { tls: { ca } }, to: at("never") }).done;
    await expect(stranger).rejects.toMatchObject({ code: expect.stringMatching(/^CHANNEL_/) });
  }
});

describe("limits", () => {
  const all = { publish: true, fetch: true };
  const tokens = { one: { token: "one", ...all }, two: { token: "two", ...all } };

  test("one more transfer than a peer may have, or than there may be, is SERVER_BUSY, and has its turn later", async () => {
    const limits = { maxTransfers: 3, maxPeerTransfers: 2 };
    const server = await serving({ limits, authorize: await bearerTokens(tokens) });
    server.publish("m", model());
    const url = server.urlOf("m");
    const ones = [await fetching(url, "one"), await fetching(url, "one")];
    // Whatever the channel, and wherever it comes from: a peer is its principal.
    for (const from of [url, url.replace("ws:", "http:")]) {
      await expect(fetched(from, "one")).rejects.toMatchObject({ code: "SERVER_BUSY", retryable: true });
    }
    const two = await fetching(url, "two");
    await expect(fetched(url, "two")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect(server.transfers).toBe(3);
    for (const { release, done } of [...ones, two]) {
      release();
      await done;
    }
    await until(() => server.transfers === 0);
    expect(await fetched(url, "one")).toEqual({ w: 1 });
  });

  test("a peer without a name is its address", async () => {
    const server = await serving({ limits: { maxPeerTransfers: 1 } });
    server.publish("m", model());
    const { done, release } = await fetching(server.urlOf("m"));
    await expect(fetched(server.urlOf("m"))).rejects.toMatchObject({ code: "SERVER_BUSY" });
    release();
    await done;
  });

  test("more bytes than a peer may send at once are SERVER_BUSY; more than it ever may, LIMIT_EXCEEDED", async () => {
    const { sink, release } = held();
    const sinks = [sink];
    const server = await serving({
      limits: { maxPeerBytes: 6000 },
      onReceive: () => sinks.shift() ?? held().sink,
      authorize: await bearerTokens(tokens),
    });
    const send = (name: string, token: string, elements = 1000) =>
      streamModel(
        { w: { dtype: "F32", shape: [elements], data: new Float32Array(elements) } },
        server.urlOf(name),
        { dial: { token } },
      );
    await expect(send("large", "one", 2000)).rejects.toMatchObject({ peerCode: "LIMIT_EXCEEDED" });
    const first = send("first", "one");
    await until(() => sinks.length === 0);
    await expect(send("second", "one")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    release();
    await first;
    await until(() => server.transfers === 0);
  });

  test("one connection more than there may be is SERVER_BUSY", async () => {
    const server = await serving({ limits: { maxConnections: 2, maxPeerTransfers: 9 } });
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    for (const from of [url, url.replace("ws:", "http:")]) {
      await expect(fetched(from)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    }
    for (const { release, done } of under) {
      release();
      await done;
    }
  });

  test("are what `retry` waits for, wherever the server says so", async () => {
    for (const limits of [{ maxConnections: 1 }, { maxPeerTransfers: 1 }]) {
      const server = await serving({ limits });
      server.publish("m", model());
      const url = server.urlOf("m");
      const { done, release } = await fetching(url);
      const waits: string[] = [];
      const retry = {
        initialDelayMs: 5,
        maxDelayMs: 50,
        attempts: 1000,
        onRetry: ({ error }: { error: TensorwireError }) => void waits.push(error.code),
      };
      const second = receiveModel(url, { to: at(`busy-${Object.keys(limits)}`), retry }).done;
      await until(() => waits.length > 2);
      release();
      await Promise.all([done, second]);
      expect(new Set(waits)).toEqual(new Set(["SERVER_BUSY"]));
    }
  });

  test("that are none are arguments at fault", async () => {
    for (const limits of [{ maxTransfers: 0 }, { maxPeerBytes: 1.5 }, { maxModels: 3 } as object]) {
      await expect(createModelServer({ limits })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    for (const prefix of ["models", "/a b/", "/a?/", "//"]) {
      await expect(createModelServer({ prefix }), prefix).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });
});

describe("many at once", () => {
  test("receivers and uploads, over both channels, get what is theirs", async () => {
    const server = await serving({ uploads: folder, limits: { maxPeerTransfers: 64 } });
    for (let i = 0; i < 4; i++) server.publish(`m${i}`, model(i));
    const http = (url: string) => url.replace("ws:", "http:");
    const fetches = Array.from({ length: 24 }, async (_, i) => {
      const url = server.urlOf(`m${i % 4}`);
      expect(await fetched(i % 3 ? url : http(url))).toEqual({ w: i % 4 });
    });
    const uploads = Array.from({ length: 16 }, async (_, i) => {
      const url = server.urlOf(`up/${i}.twire`);
      await streamModel(model(100 + i), i % 3 ? url : http(url));
      expect(await fetched(at(`up/${i}.twire`))).toEqual({ w: 100 + i });
    });
    await Promise.all([...fetches, ...uploads]);
    await until(() => server.transfers === 0);
    expect((await readdir(at("up"))).length).toBe(16);
  });
});

describe("an owner", () => {
  test("says where a model goes by what it is and who sends it, or refuses it", async () => {
    const seen: unknown[] = [];
    const server = await serving({
      uploads: folder,
      authorize: await bearerTokens({ site: { token: "t", publish: true } }),
      onReceive: (origin, manifest, peer) => {
        seen.push([origin.name, manifest.tensors[0]!.name, peer.principal?.name, Object.keys(peer).sort()]);
        if (origin.name === "thrown") throw new Error("the owner's own affair");
        if (origin.name === "busy") throw new TensorwireError("SERVER_BUSY", "not now");
        return origin.name === "refused" ? undefined : `of-${peer.principal!.name}/${origin.name}.twire`;
      },
    });
    const send = (name: string) => streamModel(model(9), server.urlOf(name), { dial: { token: "t" } });
    await send("a");
    expect(await fetched(at("of-site/a.twire"))).toEqual({ w: 9 });
    await expect(send("refused")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("busy")).rejects.toMatchObject({ code: "SERVER_BUSY" });
    const thrown = await send("thrown").catch((error) => error);
    expect([thrown.code, thrown.message]).toEqual(["FORBIDDEN", expect.not.stringContaining("affair")]);
    expect(seen[0]).toEqual(["a", "w", "site", ["address", "path", "principal", "private", "subject"]]);
  });

  test("hears of transfers and refusals, and of no credential", async () => {
    const server = await serving({ authorize: await bearerTokens({ a: { token: "sEcReT", fetch: ["m"] } }) });
    server.publish("m", model());
    const transfers: ServedTransfer[] = [];
    const refusals: Refusal[] = [];
    server.on("transfer", (transfer) => transfers.push(transfer));
    server.on("refused", (refusal) => refusals.push(refusal));
    await fetched(server.urlOf("m"), "sEcReT");
    for (const [name, token] of [
      ["m", "sEcReT-not"],
      ["n", "sEcReT"],
      ["CON", "sEcReT"],
    ]) {
      await fetched(server.url + name, token).catch(() => {});
    }
    await until(() => refusals.length === 3);
    expect(transfers).toMatchObject([
      { id: 1, direction: "fetch", name: "m", peer: { principal: { name: "a" } } },
    ]);
    expect((await transfers[0]!.done).sourceBytes).toBe(4000);
    expect(refusals.map(({ error }) => error.code)).toEqual(["UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND"]);
    expect(inspect([transfers, refusals], { depth: 9 })).not.toContain("sEcReT");
  });

  test("finds models that nobody published, when they are asked for", async () => {
    const server = await serving({
      find: async (name) => (name === "later" ? { options: {}, open: () => model(6) } : undefined),
    });
    expect(await fetched(server.urlOf("later"))).toEqual({ w: 6 });
    await expect(fetched(server.urlOf("never"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(server.names).toEqual([]);
  });

  test("publishes what can be opened for each receiver, and nothing else", async () => {
    const server = await serving();
    const once = fromTensors([{ name: "w", dtype: "F32", shape: [1] }], []);
    expect(() => server.publish("once", once)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    server.publish("gone", at("gone.safetensors"));
    server.publish("broken", () => {
      throw new Error(`${folder} is the owner's own affair`);
    });
    for (const name of ["gone", "broken"]) {
      const error = await fetched(server.urlOf(name)).catch((error) => error);
      expect(error).toMatchObject({ code: "PEER_FAILED", peerCode: "SOURCE_READ" });
      expect(error.message).not.toContain(folder);
    }
    expect(await until(() => server.transfers === 0)).toBe(undefined);
  });

  test("serves peers that do not say what they came for: what is published is sent, what is not is taken", async () => {
    const server = await serving({ uploads: folder });
    server.publish("m", model(2));
    const open = (name: string): WebSocket => {
      const socket = new WebSocket(server.urlOf(name));
      closers.push(() => socket.terminate());
      return socket;
    };
    const names: string[] = [];
    for await (const { name } of receiveModel(open("m"))) names.push(name);
    expect(names).toEqual(["w"]);
    await streamModel(model(3), open("up.twire"));
    expect(await fetched(at("up.twire"))).toEqual({ w: 3 });
  });
});

describe("closing", () => {
  test("waits for transfers, and takes no more", async () => {
    const server = await serving();
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    let closed = false;
    const closing = server.close().then(() => {
      closed = true;
    });
    await expect(fetched(url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    await expect(fetched(url.replace("ws:", "http:"))).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect(closed).toBe(false);
    for (const { release, done } of under) {
      release();
      await done;
    }
    await closing;
    await expect(fetched(url)).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
  });

  test("ends transfers when its signal aborts, and the peers hear why", async () => {
    const server = await serving({ uploads: folder });
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    const stuck = (async function* () {
      await new Promise(() => {});
      yield { name: "w", dtype: "F32" as const, shape: [1], data: new Float32Array(1) };
    })();
    const upload = streamModel(
      fromTensors([{ name: "w", dtype: "F32", shape: [1] }], stuck),
      server.urlOf("up"),
    );
    upload.catch(() => {});
    await until(() => server.transfers === 3);
    const stop = new AbortController();
    const closing = server.close();
    const forced = server.close({ signal: stop.signal });
    stop.abort(new Error("the night is over"));
    await Promise.all([closing, forced]);
    for (const done of [...under.map(({ done }) => done), upload]) {
      await expect(done).rejects.toMatchObject({
        code: "ABORTED",
        message: expect.stringContaining("the night is over"),
      });
    }
    expect(await readdir(folder)).toEqual([]);
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe("an upload that is interrupted", () => {
  test.each(["ws:", "http:"])(
    "over %s goes on where it was, when the same model is sent to the same name",
    async (scheme) => {
      const server = await serving({ uploads: folder });
      await makeModel(at("source.safetensors"), [{ name: "w", dtype: "F32", shape: [4096, 1024] }]);
      const url = server.urlOf("site/m.safetensors").replace("ws:", scheme);
      const stop = new AbortController();
      const options = { chunkBytes: 1 << 18, windowBytes: 1 << 21 };
      const sent = streamModel(at("source.safetensors"), url, {
        ...options,
        signal: stop.signal,
        onProgress: ({ acknowledgedBytes }) => acknowledgedBytes > 6e6 && stop.abort(),
        maxBytesPerSecond: 3e7,
      });
      await expect(sent).rejects.toMatchObject({ code: "ABORTED" });
      await until(() => server.transfers === 0);
      // Nobody has it before it is whole, and it is no model that is served.
      expect((await readdir(at("site"))).sort()).toEqual([
        "m.safetensors.part",
        "m.safetensors.part.journal",
      ]);
      const summary = await streamModel(at("source.safetensors"), url, options);
      expect(summary.resumedBytes).toBeGreaterThan(3e6);
      expect(await readdir(at("site"))).toEqual(["m.safetensors"]);
      expect(
        (await readFile(at("site/m.safetensors"))).equals(await readFile(at("source.safetensors"))),
      ).toBe(true);
    },
  );
});

test("a server whose upload folder does not exist says so before it listens", async () => {
  await expect(
    createModelServer({ port: 0, uploads: join(tmpdir(), "tensorwire-none", "rounds") }),
  ).rejects.toMatchObject({
    code: "TARGET_WRITE",
    message: expect.stringMatching(/there is no folder ".*rounds" to take models into: create it/),
  });
});
