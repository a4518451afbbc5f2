import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createSecureServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ReceiveOptions,
  receiveModel,
  remoteArtifact,
  streamModel,
  type TensorMap,
  transferModel,
} from "../src/index.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { ForwardProxy } from "./forward-proxy.js";
import { type Fault, RangeServer } from "./range-server.js";

const KiB = 1024;
const ELEMENTS = 128 * KiB;
/** 4 MiB in eight tensors. */
const model: TensorMap = Object.fromEntries(
  Array.from({ length: 8 }, (_, layer) => {
    const data = Float32Array.from({ length: ELEMENTS }, (_, i) => Math.sin(i * 12.9898 + layer) * 0.02);
    return [`layers.${layer}`, { dtype: "F32", shape: [ELEMENTS], data }];
  }),
);

let folder: string;
let artifact: Uint8Array;
const closers: (() => unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-remote-"));
  await streamModel(model, join(folder, "m.twire"), { chunkBytes: 64 * KiB });
  artifact = await readFile(join(folder, "m.twire"));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function serve(fault?: Fault): Promise<RangeServer> {
  const server = await RangeServer.open(artifact);
  server.fault = fault;
  closers.push(() => server.close());
  return server;
}

const out = (name = "m.safetensors"): string => join(folder, name);
const receive = (url: string, options: ReceiveOptions = {}) =>
  receiveModel(url, { to: out(), windowBytes: 1024 * KiB, ...options });

/** Whether what arrived is what the artifact holds. */
async function arrived(): Promise<boolean> {
  await transferModel(join(folder, "m.twire"), out("plain.safetensors"), { overwrite: true });
  return (await readFile(out())).equals(await readFile(out("plain.safetensors")));
}

const nothing = { headers: {}, body: new Uint8Array() };
/** Of a web server that knows no ranges. */
const whole: Fault = (answer, { headers }) => {
  if (headers.range === undefined) return answer;
  const { "content-range": _, "accept-ranges": __, ...others } = answer.headers;
  return { status: 200, headers: { ...others, "content-length": String(artifact.length) }, body: artifact };
};
const slow: Fault = async (answer) => {
  await new Promise((resolve) => setTimeout(resolve, 5));
  return answer;
};

describe("a model from any web server", () => {
  test("that knows ranges: by as many at once as are asked for", async () => {
    const server = await serve(slow);
    const summary = await receive(server.url, { concurrency: 3 }).done;
    expect(summary).toMatchObject({ confirmed: true, tensors: 8 });
    expect(await arrived()).toBe(true);
    expect(server.most).toBe(3);
  });

  test("at a URL that says nothing of an artifact", async () => {
    const server = await serve((answer, { method }) =>
      method === "POST" ? { status: 405, ...nothing } : answer,
    );
    await receive(server.url.replace("m.twire", "download?id=7")).done;
    expect(await arrived()).toBe(true);
    expect(server.requests[0]).toMatchObject({ method: "POST" });
    expect(server.ranges.length).toBeGreaterThan(4);
  });

  test("that knows no ranges: as it comes", async () => {
    const server = await serve(whole);
    await receive(server.url).done;
    expect(await arrived()).toBe(true);
    expect(server.requests.at(-1)).toMatchObject({ method: "GET", range: undefined });
    const { done } = receive(server.url, { to: out("some.safetensors"), tensors: ["layers.0"] });
    await expect(done).rejects.toMatchObject({ code: "SOURCE_INVALID", retryable: false });
  });

  test("that knows no ranges, as a source: read forward, as often as it takes", async () => {
    const server = await serve(whole);
    await transferModel(remoteArtifact(server.url), out());
    expect(await arrived()).toBe(true);
    expect(server.requests.filter(({ method }) => method === "GET").length).toBeLessThanOrEqual(5);
  });

  test("whose parts come late, short, and with faults between", async () => {
    let n = 0;
    const server = await serve(async (answer, request, response) => {
      if (n++ % 4 === 1) return { status: 503, ...nothing };
      if (n % 4 !== 2 || answer.status !== 206) return slow(answer, request, response);
      response.writeHead(206, answer.headers);
      response.write(answer.body.subarray(0, 10 * KiB), () => setTimeout(() => response.destroy(), 5));
      return undefined;
    });
    await receive(server.url).done;
    expect(await arrived()).toBe(true);
  });

  test("for whoever iterates, who may stop", async () => {
    const server = await serve();
    const names: string[] = [];
    const received = receiveModel(server.url, { tensors: ["layers.[0-9]", "layers.3", "layers.5"].slice(1) });
    for await (const { name, data } of received) {
      names.push(name);
      expect(data.byteLength).toBe(4 * ELEMENTS);
    }
    expect(names).toEqual(["layers.3", "layers.5"]);
    const stopped = receiveModel(server.url, { windowBytes: 256 * KiB });
    for await (const _ of stopped) break;
    await expect(stopped.done).rejects.toMatchObject({ code: "SINK_CLOSED" });
    while (server.sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});

describe("a file that nobody vouches for", () => {
  for (const tag of [undefined, 'W/"weak"']) {
    const what = tag === undefined ? "without an entity tag" : "with a weak one";
    test(`${what}: its index is looked at again in the end`, async () => {
      const server = await serve();
      server.tag = tag;
      const before = server.ranges.length;
      await receive(server.url).done;
      expect(await arrived()).toBe(true);
      expect(server.requests.some(({ headers }) => headers["if-range"] !== undefined)).toBe(false);
      expect(server.ranges.slice(before).at(-1)).toMatch(/^bytes=\d+-\d+$/);
    });

    test(`${what}, that is another one in the end: SOURCE_CHANGED`, async () => {
      const other = structuredClone(model) as unknown as Record<string, { data: Float32Array }>;
      other["layers.0"]!.data[0] = 7;
      await streamModel(other as unknown as TensorMap, join(folder, "other.twire"), { chunkBytes: 64 * KiB });
      const next = await readFile(join(folder, "other.twire"));
      expect(next.length).toBe(artifact.length);
      // Of the same length, and the same but for what was read already.
      const server = await serve((answer) => {
        if (server.ranges.length > 8) server.content = next;
        return answer;
      });
      server.tag = tag;
      const { done } = receive(server.url);
      await expect(done).rejects.toMatchObject({ code: "SOURCE_CHANGED", retryable: true });
      expect(existsSync(out())).toBe(false);
    });
  }

  test("whose bytes are others than its index says: SOURCE_INVALID, and no file", async () => {
    const server = await serve((answer) => {
      if (answer.status === 206 && answer.body.length > 64 * KiB) {
        answer.body = answer.body.slice();
        answer.body[1000]! ^= 1;
      }
      return answer;
    });
    await expect(receive(server.url).done).rejects.toMatchObject({
      code: "SOURCE_INVALID",
      tensor: "layers.0",
    });
    expect(readdirSync(folder)).toEqual(["m.twire"]);
  });
});

describe("what ends it", () => {
  test("a signal, at any moment: no connection, and no file", async () => {
    for (let after = 0; after < 40; after += 4) {
      const server = await serve(slow);
      const stop = new AbortController();
      const { done } = receive(server.url, { signal: stop.signal, resume: false });
      const timer = setTimeout(() => stop.abort(), after);
      const error = await done.then(
        () => undefined,
        (reason) => reason,
      );
      clearTimeout(timer);
      if (error) expect(error).toMatchObject({ code: "ABORTED" });
      while (server.sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      expect(readdirSync(folder).filter((name) => name.includes(".part"))).toEqual([]);
      await rm(out(), { force: true });
    }
  }, 30_000);

  test("a sink that fails: its own error", async () => {
    const server = await serve(slow);
    const sink = {
      name: "full",
      parallel: false,
      open: async () => {},
      write: () => Promise.reject(new Error("no more")),
      finish: async () => {},
      abort: async () => {},
    };
    await expect(receive(server.url, { to: sink }).done).rejects.toMatchObject({
      message: expect.stringContaining("no more"),
    });
    while (server.sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  test("a server that is silent: IDLE_TIMEOUT, and what has come stays", async () => {
    let parts = 0;
    const server = await serve((answer) => (answer.status === 206 && parts++ > 8 ? undefined : answer));
    const { done } = receive(server.url, { idleTimeoutMs: 300, concurrency: 1 });
    await expect(done).rejects.toMatchObject({ code: "IDLE_TIMEOUT", retryable: true });
    server.fault = undefined;
    const summary = await receive(server.url).done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(await arrived()).toBe(true);
  });

  test("a server that is not there, has no such file, or wants to know who asks", async () => {
    const server = await serve();
    for (const [status, code] of [
      [404, "NOT_FOUND"],
      [401, "UNAUTHORIZED"],
      [403, "FORBIDDEN"],
      [400, "CHANNEL_OPEN"],
    ] as const) {
      server.fault = () => ({ status, ...nothing });
      await expect(receive(server.url).done).rejects.toMatchObject({ code, retryable: false });
    }
    const { url } = server;
    await server.close();
    await expect(receive(url).done).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: true });
  });
});

describe("options", () => {
  test("that are none, or of another origin: INVALID_ARGUMENT", async () => {
    const wrong: [string, ReceiveOptions][] = [
      ["http://127.0.0.1:1/m.twire", { concurrency: 0 }],
      ["http://127.0.0.1:1/m.twire", { concurrency: 1.5 }],
      ["http://127.0.0.1:1/m.twire", { tensors: [] }],
      ["http://127.0.0.1:1/m.twire", { dial: { tls: {} } }],
    ];
    for (const [url, options] of wrong) {
      await expect(receive(url, options).done).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    expect(() => remoteArtifact("ftp://example.org/m.twire")).toThrow(/http/);
    expect(() => remoteArtifact("m.twire")).toThrow(/no URL/);
    expect(() => remoteArtifact("http://example.org/m.twire", { concurrency: 65 })).toThrow(/concurrency/);
  });
});

const { ca, server: identity } = hasOpenssl ? makeAuthority() : ({} as never);

describe.runIf(hasOpenssl)("with TLS", () => {
  const secure = async (): Promise<RangeServer> => {
    const server = await RangeServer.open(artifact, (listener) => createSecureServer(identity, listener));
    closers.push(() => server.close());
    return server;
  };

  test("and a token, which every request shows", async () => {
    const server = await secure();
    const url = server.url.replace("http:", "https:");
    await receive(url, { dial: { tls: { ca }, token: "secret" } }).done;
    expect(await arrived()).toBe(true);
    for (const { headers } of server.requests) expect(headers.authorization).toBe("Bearer secret");
    await expect(receive(url, { to: out("x") }).done).rejects.toMatchObject({
      code: "CHANNEL_OPEN",
      retryable: false,
    });
  });

  test("through the proxy that the environment names", async () => {
    const server = await secure();
    const proxy = await ForwardProxy.open();
    closers.push(() => proxy.close());
    process.env.https_proxy = `http://${proxy.host}`;
    closers.push(() => delete process.env.https_proxy);
    const url = `https://model.example:${server.port}/m.twire`;
    const tls = { ca, servername: "localhost" };
    await receive(url, { dial: { tls }, concurrency: 2 }).done;
    expect(await arrived()).toBe(true);
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT model.example:${server.port}`]));
  });
});
