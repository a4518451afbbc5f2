import { createServer as createWebServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { type Chunk, ChunkPlan, type ModelInfo } from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createModelServer,
  duplexChannel,
  MemoryBudget,
  type ModelServerOptions,
  type ModelSink,
  type ModelSource,
  receiveModel,
  remoteSource,
  type ServedTransfer,
  streamModel,
  TensorwireError,
  transferModel,
} from "../src/index.js";
import { shareOut } from "../src/remote/shares.js";
import { cleanup, failure, folder, listing } from "./sink-fixture.js";

const KiB = 1024;
const CHUNK = 64 * KiB;
const WINDOW = 16 * CHUNK;
const small = { windowBytes: WINDOW } as const;

const weights = Float32Array.from({ length: 40 * (CHUNK / 4) }, (_, i) => Math.sin(i * 12.9898));
const model = {
  ...Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [
      `bias.${i}`,
      { dtype: "F32", shape: [i], data: weights.subarray(i, 2 * i) } as const,
    ]),
  ),
  weights: { dtype: "F32", shape: [weights.length], data: weights },
  ids: { dtype: "I32", shape: [5], data: Int32Array.of(1, 2, 3, 4, 5) },
} as const;
const published = { chunkBytes: CHUNK, codec: "blockwise8", version: "one" } as const;

// Every transfer of this file gives all its buffers back.
const loans: number[] = [];
const onEnd = (message: unknown): void => void loans.push((message as { loans: number }).loans);
beforeEach(() => {
  loans.length = 0;
  subscribe("tensorwire:transfer:end", onEnd);
});
afterEach(() => {
  unsubscribe("tensorwire:transfer:end", onEnd);
  expect(loans.filter((count) => count !== 0)).toEqual([]);
});

async function serving(options: ModelServerOptions = {}) {
  const server = await createModelServer(options);
  cleanup(() => void server.close({ signal: AbortSignal.abort() }));
  const transfers: ServedTransfer[] = [];
  server.on("transfer", (transfer) => {
    transfers.push(transfer);
    transfer.done.catch(() => {});
  });
  server.publish("m", model, published);
  return { server, transfers };
}

/** What goes out of each connection of a bare TCP server, as the test says. */
async function perConnection(serve: (socket: Socket, nth: number) => unknown) {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    void Promise.resolve(serve(socket, connections++)).catch(() => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanup(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { url: `tcp://127.0.0.1:${port}`, connections: () => connections };
}

const send = (socket: Socket, options: object = {}) =>
  streamModel(model, duplexChannel(socket), { ...published, ...small, ...options });

/** What one connection brings. */
async function whole(): Promise<Buffer> {
  const at = folder();
  await transferModel(model, join(at, "m.twire"), published);
  return readFileSync(join(at, "m.twire"));
}

describe("shares", () => {
  const plan = new ChunkPlan(
    [
      { name: "a", dtype: "F32", shape: [100_000] },
      ...Array.from({ length: 100 }, (_, i) => ({ name: `b${i}`, dtype: "U8", shape: [i * 100] }) as const),
      { name: "c", dtype: "F32", shape: [50_000] },
    ],
    CHUNK,
  );

  test.each([1, 2, 3, 4, 7, 64])("of %i cover what is wanted, each chunk once, in turn", (count) => {
    const wanted = [
      { first: 2, count: 40 },
      { first: 60, count: plan.chunks - 61 },
    ];
    const shares = shareOut(plan, wanted, count, WINDOW);
    const owners = new Map<number, number>();
    shares.ranges.forEach((ranges, owner) => {
      let last = -1;
      for (const { first, count: length } of ranges) {
        expect(first).toBeGreaterThan(last);
        for (let i = first; i < first + length; i++) {
          expect(owners.has(i)).toBe(false);
          owners.set(i, owner);
        }
        last = first + length - 1;
      }
    });
    const ordinals = [...plan.walk(wanted)].map(({ ordinal }) => ordinal);
    expect([...owners.keys()].sort((a, b) => a - b)).toEqual(ordinals);
    for (const ordinal of ordinals) expect(shares.of(ordinal)).toBe(owners.get(ordinal));
    expect(shares.of(ordinals[0]!)).toBe(0);
    expect(shares.ranges.every(({ length }) => length > 0)).toBe(true);
  });
});

describe("a model that is pulled over several connections", () => {
  test.each([1, 2, 4, 16])("is the same, with %i of them", async (concurrency) => {
    const { url, connections } = await perConnection((socket) => send(socket));
    const at = folder();
    const source = remoteSource(url, { concurrency, ...small });
    const summary = await transferModel(source, join(at, "m.twire"), small);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(summary).toMatchObject({ confirmed: true, resumedBytes: 0 });
    expect(connections()).toBe(concurrency);
  });

  test.each(["ws", "http"])(
    "comes from a server over %s, to a file and to whoever iterates",
    async (scheme) => {
      const { server, transfers } = await serving();
      const url = server.urlOf("m").replace(/^ws/, scheme);
      const at = folder();
      const summary = await receiveModel(url, { to: join(at, "m.safetensors"), concurrency: 4, ...small })
        .done;
      expect(transfers).toHaveLength(4);
      const one = await receiveModel(url, { to: join(at, "one.safetensors"), ...small }).done;
      expect(summary.digest).toBe(one.digest);
      expect(readFileSync(join(at, "m.safetensors")).equals(readFileSync(join(at, "one.safetensors")))).toBe(
        true,
      );
      const names: string[] = [];
      for await (const { name } of receiveModel(url, { concurrency: 3, ...small })) names.push(name);
      expect(names).toEqual(Object.keys(model));
    },
  );

  test("with SHA-256, and packed", async () => {
    const { server } = await serving();
    server.publish("s", model, { ...published, codec: "lossless", integrity: "sha256" });
    const [one, four] = await Promise.all(
      [1, 4].map(
        (concurrency) =>
          receiveModel(server.urlOf("s"), {
            ...{ to: join(folder(), "m.twire"), concurrency, integrity: "sha256", ...small },
          }).done,
      ),
    );
    expect(four!.sha256).toBe(one!.sha256);
    expect(four!.sha256).toMatch(/^[0-9a-f]{64}$/);
    const known = { expectedDigest: `sha256:${one!.sha256}`, concurrency: 2, ...small };
    await receiveModel(server.urlOf("s"), { ...known, to: join(folder(), "m.twire") }).done;
    const other = receiveModel(server.urlOf("m"), { ...known, to: join(folder(), "m.twire") }).done;
    expect((await failure(other)).code).toBe("INTEGRITY_REQUIRED");
  });

  test("of which only a part is lacking, over as many as that takes", async () => {
    const { url, connections } = await perConnection((socket) => send(socket));
    const at = folder();
    const controller = new AbortController();
    const stopped = receiveModel(url, {
      ...{ to: join(at, "m.twire"), ...small, signal: controller.signal, maxBytesPerSecond: 1_000_000 },
      onProgress: ({ durableBytes }) => durableBytes > 0 && controller.abort(),
    }).done;
    await failure(stopped);
    expect(listing(at)).toContain("m.twire.part.journal");
    const before = connections();
    const summary = await receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(connections() - before).toBeLessThanOrEqual(4);
  });

  test("that names no version comes over one: nothing says that several would show the same state", async () => {
    const { url, connections } = await perConnection((socket) => send(socket, { version: undefined }));
    const summary = await receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 4, ...small }).done;
    expect([summary.confirmed, connections()]).toEqual([true, 1]);
  });

  test("comes over as many as the server takes", async () => {
    const { server, transfers } = await serving({ limits: { maxPeerTransfers: 2 } });
    const to = join(folder(), "m.twire");
    expect((await receiveModel(server.urlOf("m"), { to, concurrency: 4, ...small }).done).confirmed).toBe(
      true,
    );
    expect(transfers).toHaveLength(2);
  });

  test("comes over as many as have a chunk each in the window", async () => {
    const { url, connections } = await perConnection((socket) => send(socket));
    await receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 16, windowBytes: 3 * CHUNK }).done;
    expect(connections()).toBe(3);
  });

  test("comes over one from a web server that knows no channels", async () => {
    const bytes = await whole();
    let requests = 0;
    const web = createWebServer(({ method }, answer) => {
      if (method !== "GET") return void answer.writeHead(405).end();
      requests++;
      answer.end(bytes);
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    cleanup(() => void web.close());
    const url = `http://127.0.0.1:${(web.address() as { port: number }).port}/model`;
    const to = join(folder(), "m.twire");
    await receiveModel(url, { to, concurrency: 4, ...small }).done;
    // One that asked for a part, and one for all.
    expect(requests).toBe(2);
    expect(readFileSync(to).equals(bytes)).toBe(true);
  });

  test("refuses what has no several connections", async () => {
    const refused = [
      { from: "m.twire", concurrency: 2, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 0, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 65, code: "INVALID_ARGUMENT" },
      { from: "ws://127.0.0.1:1/m", concurrency: 2, code: "CHANNEL_OPEN" },
    ];
    for (const { from, concurrency, code } of refused) {
      const to = join(folder(), "m.safetensors");
      expect((await failure(receiveModel(from, { to, concurrency }).done)).code, from).toBe(code);
    }
  });
});

describe("what goes wrong on one of them", () => {
  test.each([
    ["another state", { version: "two" }],
    ["another model", { codec: "float16" }],
  ])("the first shows one model, another one %s: SOURCE_CHANGED", async (_, other) => {
    const { url } = await perConnection((socket, nth) => send(socket, nth === 2 ? other : {}));
    const at = folder();
    const error = await failure(
      receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done,
    );
    expect(error.code).toBe("SOURCE_CHANGED");
    expect(listing(at)).toEqual([]);
  });

  /** A server of which one connection breaks after so many bytes. */
  const breaking = (which: number, after: number) =>
    perConnection((socket, nth) => {
      const channel = duplexChannel(socket);
      if (nth === which) {
        const { write } = socket;
        let bytes = 0;
        socket.write = ((...args: Parameters<typeof write>) => {
          bytes += (args[0] as unknown as Uint8Array).length;
          if (bytes > after) socket.destroy();
          return write.apply(socket, args);
        }) as typeof write;
      }
      return streamModel(model, channel, { ...published, ...small });
    });

  test.each([0, 2])("number %i breaks: the others go on, and it alone is made again", async (which) => {
    const { url, connections } = await breaking(which, 60_000);
    const to = join(folder(), "m.twire");
    const retry = { initialDelayMs: 1 };
    await receiveModel(url, { to, concurrency: 4, ...small, retry }).done;
    expect(connections()).toBe(5);
    expect(readFileSync(to).equals(await whole())).toBe(true);
  });

  test("it is interrupted without retry, and the same call goes on", async () => {
    const { url } = await breaking(1, 60_000);
    const at = folder();
    const call = () => receiveModel(url, { to: join(at, "m.twire"), concurrency: 4, ...small }).done;
    const error = await failure(call());
    expect([error.code, error.retryable]).toEqual(["CHANNEL_CLOSED", true]);
    expect(listing(at)).not.toContain("m.twire");
    await call();
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });

  test("the source is in another state when it comes again: SOURCE_CHANGED", async () => {
    const { url } = await perConnection((socket, nth) => {
      if (nth === 1) setTimeout(() => socket.destroy(), 30);
      return send(socket, nth > 3 ? { version: "two" } : { maxBytesPerSecond: 1_000_000 });
    });
    const call = receiveModel(url, {
      ...{ to: join(folder(), "m.twire"), concurrency: 4, ...small, retry: { initialDelayMs: 1 } },
    });
    expect((await failure(call.done)).code).toBe("SOURCE_CHANGED");
  });

  test("it is cancelled, and every connection hears of it", async () => {
    const { server, transfers } = await serving({ maxBytesPerSecond: 200_000 });
    const controller = new AbortController();
    const call = receiveModel(server.urlOf("m"), {
      ...{ to: join(folder(), "m.twire"), concurrency: 4, ...small, signal: controller.signal },
    });
    while (transfers.length < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
    for (const { done } of transfers) expect((await failure(done)).code).toBe("ABORTED");
  });
});

describe("memory", () => {
  /** Source bytes that were read at the server, and not yet written here, at most. */
  async function atOnce(concurrency: number): Promise<number> {
    const [chunks, read] = [60, new Set<number>()];
    let [written, most] = [0, 0];
    const info: ModelInfo = {
      kind: "model",
      tensors: [{ name: "w", dtype: "U8", shape: [chunks * CHUNK] }],
      metadata: new Map(),
    };
    const source = (): ModelSource => ({
      name: "the source",
      version: "one",
      open: async () => info,
      async read(chunk: Chunk, pool) {
        read.add(chunk.ordinal);
        most = Math.max(most, read.size * CHUNK - written);
        return pool.lend(chunk.bytes);
      },
      close: async () => {},
    });
    const { url } = await perConnection((socket) =>
      streamModel(source(), duplexChannel(socket), { chunkBytes: CHUNK, windowBytes: 2 * CHUNK }),
    );
    const sink: ModelSink = {
      name: "the sink",
      parallel: false,
      async open() {},
      async write({ bytes }) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        written += bytes;
      },
      async finish() {},
      async abort() {},
    };
    await receiveModel(url, { to: sink, concurrency, ...small }).done;
    return most;
  }

  test("one window is on its way, over however many, and as much as the end that decodes takes beside it", async () => {
    for (const concurrency of [2, 4, 16]) {
      const most = await atOnce(concurrency);
      expect(most, `${concurrency} connections`).toBeLessThanOrEqual(1.5 * WINDOW);
      expect(most).toBeGreaterThan(WINDOW / 2);
    }
  });

  test("a server with memory for one of them at a time brings them all: none keeps it while it waits for credit", async () => {
    const budget = new MemoryBudget(8 * 1024 * KiB);
    const half = await perConnection((socket) =>
      send(socket, { budget: new MemoryBudget(budget.bytes / 2) }),
    );
    await expect(
      receiveModel(half.url, { to: join(folder(), "m.twire"), ...small }).done,
      "one takes more than half of it",
    ).rejects.toMatchObject({ peerCode: "LIMIT_EXCEEDED" });
    const { url } = await perConnection((socket) => send(socket, { budget }));
    const to = join(folder(), "m.twire");
    await Promise.all(
      [to, `${to}.twire`].map((path) => receiveModel(url, { to: path, concurrency: 4, ...small }).done),
    );
    expect(readFileSync(to).equals(await whole())).toBe(true);
    await expect.poll(() => [budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("many pulls share one small budget of the caller's, and do not stand still", async () => {
    const { url } = await perConnection((socket) => send(socket));
    const budget = new MemoryBudget(8 * 1024 * KiB);
    const pull = (): Promise<unknown> =>
      receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 3, ...small, budget }).done;
    await Promise.all(Array.from({ length: 6 }, pull));
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });
});

describe("a relay", () => {
  test("forwards chunks as they are encoded, and never decodes one", async () => {
    const { server } = await serving();
    const edge = await serving({ uploads: folder() });
    const { backend, used } = watched();
    const source = remoteSource(server.urlOf("m"), { concurrency: 4, ...small, backend });
    const sent = await streamModel(source, edge.server.urlOf("m.twire"), { ...small, backend });
    expect(sent.confirmed).toBe(true);
    expect(used).toEqual(new Set(["hash"]));
    const to = join(folder(), "m.twire");
    await receiveModel(server.urlOf("m"), { to, ...small }).done;
    const { digest } = await edge.transfers[0]!.done;
    expect(digest).toBe(sent.digest);
  });

  test("one after another, the last end has what the first one sent", async () => {
    const { server } = await serving();
    const middle = await serving();
    middle.server.publish("relayed", () => remoteSource(server.urlOf("m"), { concurrency: 2, ...small }));
    const to = join(folder(), "m.twire");
    await receiveModel(middle.server.urlOf("relayed"), { to, concurrency: 2, ...small }).done;
    expect(readFileSync(to).equals(await whole())).toBe(true);
    server.unpublish("m");
    const error = await failure(
      receiveModel(middle.server.urlOf("relayed"), { to: `${to}2`, ...small }).done,
    );
    expect(error).toBeInstanceOf(TensorwireError);
    expect(listing(join(to, ".."))).toEqual(["m.twire"]);
  });

  /** A backend that notes what it is asked for. */
  function watched() {
    const used = new Set<string>();
    const backend = new Proxy(defaultBackend(), {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          used.add(String(name));
          return value.apply(target, args);
        };
      },
    });
    return { backend, used };
  }
});
