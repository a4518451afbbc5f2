import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import {
  type Chunk,
  ChunkPlan,
  DEFAULT_LIMITS,
  type Loan,
  type ModelInfo,
  maxWantRanges,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  createModelServer,
  duplexChannel,
  listen,
  MemoryBudget,
  type ModelSink,
  type ModelSource,
  receiveModel,
  remoteSource,
  streamModel,
  type TensorMap,
  transferModel,
} from "../src/index.js";
import { shareOut } from "../src/remote/shares.js";
import { cleanup, failure, folder, listing } from "./sink-fixture.js";

const KiB = 1024;
const CHUNK = 64 * KiB;
const small = { windowBytes: 16 * CHUNK } as const;

const weights = Float32Array.from({ length: 40 * (CHUNK / 4) }, (_, i) => Math.sin(i * 12.9898));
const model = { weights: { dtype: "F32", shape: [weights.length], data: weights } } as const;
const published = { chunkBytes: CHUNK, codec: "blockwise8", version: "one" } as const;

const built = new URL("../dist/", import.meta.url);
const runs = existsSync(new URL("index.js", built));
if (!runs) console.log("SKIPPED: needs npm run build");

/** A bare TCP server, which does with each connection as the test says. */
async function perConnection(serve: (socket: Socket, nth: number) => unknown) {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
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
  return { url: `tcp://127.0.0.1:${port}`, port, connections: () => connections };
}

const send = (socket: Socket, options: object = {}) =>
  streamModel(model, duplexChannel(socket), { ...published, ...small, ...options });

/** What one connection brings. */
async function whole(): Promise<Buffer> {
  const at = folder();
  await transferModel(model, join(at, "m.twire"), published);
  return readFileSync(join(at, "m.twire"));
}

/** A model of so many chunks that is as the test says. */
function sourceOf(chunks: number, of: Partial<ModelSource>): ModelSource {
  const info: ModelInfo = {
    kind: "model",
    tensors: [{ name: "weights", dtype: "F32", shape: [chunks * (CHUNK / 4)] }],
    metadata: new Map(),
  };
  return {
    name: "the source",
    version: "one",
    open: async () => info,
    read: (chunk, pool) => pool.lend(chunk.bytes),
    close: async () => {},
    ...of,
  } as ModelSource;
}

describe("a pull that is cancelled", () => {
  const patient = { ...small, concurrency: 4, idleTimeoutMs: 0 } as const;

  test("while other connections are not answered ends at once", async () => {
    const { url, connections } = await perConnection((socket, nth) => (nth === 0 ? send(socket) : undefined));
    const controller = new AbortController();
    const { signal } = controller;
    const call = receiveModel(url, { ...patient, to: join(folder(), "m.twire"), signal });
    await expect.poll(connections).toBe(4);
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
  });

  test("while no chunk comes ends at once", async () => {
    let asked = 0;
    const read = (): Promise<Loan> => {
      asked++;
      return new Promise(() => {});
    };
    const options = { chunkBytes: CHUNK, ...small, idleTimeoutMs: 0 };
    const { url } = await perConnection((socket) =>
      streamModel(sourceOf(40, { read }), duplexChannel(socket), options),
    );
    const controller = new AbortController();
    const { signal } = controller;
    const call = receiveModel(url, { ...patient, to: join(folder(), "m.twire"), signal });
    await expect.poll(() => asked).toBe(4);
    controller.abort();
    expect((await failure(call.done)).code).toBe("ABORTED");
  });
});

describe("fewer connections than were asked for", () => {
  test("of a busy server are known at once, and are not waited for with retry", async () => {
    const server = await createModelServer({ limits: { maxPeerTransfers: 2 } });
    cleanup(() => void server.close({ signal: AbortSignal.abort() }));
    server.on("transfer", ({ done }) => void done.catch(() => {}));
    server.publish("m", model, published);
    const retried: string[] = [];
    // As long as the test takes at most: it is not waited for.
    const retry = {
      attempts: 5,
      initialDelayMs: 60_000,
      maxDelayMs: 60_000,
      onRetry: () => retried.push("m"),
    };
    const to = join(folder(), "m.twire");
    const call = receiveModel(server.urlOf("m"), { to, concurrency: 4, ...small, retry });
    expect((await call.done).confirmed).toBe(true);
    expect(retried).toEqual([]);
  });

  test("of a listener that sends to one peer bring it as well", async () => {
    const listener = await listen({ url: "tcp://127.0.0.1:0" });
    cleanup(() => void listener.close());
    const sent = streamModel(model, listener, { ...published, ...small });
    const to = join(folder(), "m.twire");
    const options = { to, concurrency: 4, ...small, idleTimeoutMs: 1000 };
    expect((await receiveModel(listener.url, options).done).confirmed).toBe(true);
    expect((await sent).confirmed).toBe(true);
    expect(readFileSync(to).equals(await whole())).toBe(true);
  });
});

describe("tiny models", () => {
  const empty = { dtype: "F32", data: new Float32Array(0) } as const;
  const tiny: readonly (readonly [string, TensorMap])[] = [
    ["no tensor", {}],
    ["empty tensors", { a: { ...empty, shape: [0] }, b: { ...empty, shape: [3, 0] } }],
    ["one element", { a: { dtype: "F32", shape: [1], data: Float32Array.of(7) } }],
  ];

  test.each(tiny)("of %s come over as many connections as they have use for", async (_, tensors) => {
    const { url, connections } = await perConnection((socket) =>
      streamModel(tensors, duplexChannel(socket), { version: "one" }),
    );
    const to = join(folder(), "m.twire");
    expect((await receiveModel(url, { to, concurrency: 4 }).done).confirmed).toBe(true);
    expect(connections()).toBe(1);
    const names: string[] = [];
    for await (const { name } of receiveModel(url, { concurrency: 4 })) names.push(name);
    expect(names).toEqual(Object.keys(tensors));
  });
});

describe("a connection that breaks between WANT and its first chunk", () => {
  test.each([0, 1, 3])("number %i, is the first cause; and with retry nothing", async (which) => {
    const serve = () =>
      perConnection((socket, nth) => {
        if (nth !== which) return send(socket);
        const read = (): never => {
          socket.destroy();
          throw new Error("gone");
        };
        return streamModel(sourceOf(40, { read }), duplexChannel(socket), { ...published, ...small });
      });
    const at = folder();
    const to = join(at, "m.twire");
    const first = await serve();
    const error = await failure(receiveModel(first.url, { to, concurrency: 4, ...small }).done);
    expect(error.code).toBe("CHANNEL_CLOSED");
    const second = await serve();
    await receiveModel(second.url, { to, concurrency: 4, ...small, retry: { initialDelayMs: 1 } }).done;
    expect(readFileSync(to).equals(await whole())).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });
});

describe("a small budget of the caller's", () => {
  test.each([undefined, "one"])(
    "bounds what is on its way, of version %s",
    async (version: string | undefined) => {
      let [read, written, most] = [0, 0, 0];
      const source = (): ModelSource =>
        sourceOf(400, {
          version,
          async read(chunk: Chunk, pool) {
            read += chunk.bytes;
            return pool.lend(chunk.bytes);
          },
        });
      const { url } = await perConnection((socket) =>
        streamModel(source(), duplexChannel(socket), { chunkBytes: CHUNK, windowBytes: 2 * CHUNK }),
      );
      const sink: ModelSink = {
        name: "the sink",
        parallel: false,
        async open() {},
        async write({ bytes }) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          written += bytes;
          most = Math.max(most, read - written);
        },
        async finish() {},
        async abort() {},
      };
      const budget = new MemoryBudget(8 * 1024 * KiB);
      await receiveModel(url, { to: sink, concurrency: 4, budget }).done;
      expect(most).toBeLessThan(budget.bytes);
      expect([budget.reservedBytes, budget.transfers]).toEqual([0, 0]);
    },
  );

  test("that is smaller than a chunk takes refuses the call", async () => {
    const { url } = await perConnection((socket) => send(socket));
    const budget = new MemoryBudget(100 * KiB);
    const to = join(folder(), "m.twire");
    const call = receiveModel(url, { to, concurrency: 4, ...small, budget });
    expect((await failure(call.done)).code).toBe("LIMIT_EXCEEDED");
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });
});

describe("what goes on", () => {
  test.each(["one", undefined])("a relay, whose own receiver broke, of version %s", async (version) => {
    const { url } = await perConnection((socket) => send(socket, { version }));
    const at = folder();
    const server = await createModelServer({ uploads: at });
    cleanup(() => void server.close({ signal: AbortSignal.abort() }));
    server.on("transfer", ({ done }) => void done.catch(() => {}));
    const upload = new URL(server.urlOf("m.twire"));
    const port = Number(upload.port);
    const line = await perConnection((socket, nth) => {
      const far = connect(port, "127.0.0.1").on("error", () => {});
      far.on("close", () => socket.destroy());
      socket.on("close", () => far.destroy());
      let bytes = 0;
      socket.on("data", ({ length }) => {
        bytes += length;
        if (nth === 0 && bytes > 300_000) socket.destroy();
      });
      socket.pipe(far).pipe(socket);
    });
    upload.port = String(line.port);
    const source = remoteSource(url, { concurrency: 2, ...small });
    const retry = { initialDelayMs: 1 };
    const sent = await streamModel(source, upload, { ...small, retry });
    expect(sent.confirmed).toBe(true);
    expect(sent.retries).toBeGreaterThan(0);
    expect(readFileSync(join(at, "m.twire")).equals(await whole())).toBe(true);
  });

  test.runIf(runs)("a receiver whose process was killed: the same call ends with the same file", async () => {
    const { url } = await perConnection((socket) => send(socket, { maxBytesPerSecond: 300_000 }));
    const at = folder();
    const to = join(at, "m.twire");
    const script = `
      const { receiveModel } = await import(process.argv[1]);
      const onProgress = ({ durableBytes }) => durableBytes > 0 && process.stdout.write("durable\\n");
      await receiveModel(process.argv[2], { to: process.argv[3], concurrency: 4, windowBytes: ${small.windowBytes}, onProgress }).done;`;
    const args = ["--input-type=module", "-e", script, new URL("index.js", built).href, url, to];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    cleanup(() => child.kill("SIGKILL"));
    const exited = once(child, "exit");
    await once(child.stdout, "data");
    child.kill("SIGKILL");
    expect((await exited)[1]).toBe("SIGKILL");
    expect(listing(at)).not.toContain("m.twire");
    const summary = await receiveModel(url, { to, concurrency: 4, ...small }).done;
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(readFileSync(to).equals(await whole())).toBe(true);
    expect(listing(at)).toEqual(["m.twire"]);
  });
});

test("what is wanted in more pieces than a request can name is refused", () => {
  const pieces = maxWantRanges(DEFAULT_LIMITS.maxControlBytes) + 1;
  const plan = new ChunkPlan([{ name: "a", dtype: "U8", shape: [2 * pieces * CHUNK] }], CHUNK);
  const wanted = Array.from({ length: pieces }, (_, i) => ({ first: 2 * i, count: 1 }));
  expect(() => shareOut(plan, wanted, 1, small.windowBytes)).toThrow("one request names");
  expect(shareOut(plan, wanted, 2, small.windowBytes).ranges).toHaveLength(2);
});
