import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TensorwireError } from "@tensorwire/core";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  fromTensors,
  type Listener,
  listen,
  memoryChannelPair,
  type ReceivedModel,
  type ReceiveOptions,
  type RetryEvent,
  receiveModel,
  safetensorsSink,
  shardedSafetensorsSink,
  streamModel,
  type TensorValue,
  type TransferSummary,
} from "../src/index.js";
import type { TransferEndMessage } from "../src/diagnostics/events.js";
import { BreakingProxy } from "./breaking-proxy.js";
import { Disk, ResumableSink } from "./resumable-sink.js";

const closers: (() => unknown)[] = [];
const ends: TransferEndMessage[] = [];
const onEnd = (message: unknown): void => void ends.push(message as TransferEndMessage);
let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-retry-"));
  subscribe("tensorwire:transfer:end", onEnd);
});
afterEach(async () => {
  unsubscribe("tensorwire:transfer:end", onEnd);
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true, force: true });
  expect(ends.splice(0).filter(({ loans }) => loans !== 0)).toEqual([]);
});

const CHUNK = 32_768;
const WINDOW = 4 * CHUNK;
const sizes = { chunkBytes: CHUNK, windowBytes: WINDOW, minElements: 0 } as const;
const quick = { initialDelayMs: 1, maxDelayMs: 4 } as const;

type Model = Record<string, TensorValue & { readonly data: Float32Array }>;

function model(names: readonly string[] = ["a", "b", "empty", "c", "d"]): Model {
  return Object.fromEntries(
    names.map((name, t) => {
      const elements = name === "empty" ? 0 : 30_000 + 17 * t;
      const data = new Float32Array(elements).map((_, i) => Math.sin(i * 12.9898 + t) * (1 + (i % 7)));
      return [name, { dtype: "F32", shape: [elements], data }];
    }),
  );
}

const BYTES = Object.values(model()).reduce((sum, { data }) => sum + data.byteLength, 0);

async function listening(): Promise<Listener> {
  const listener = await listen({ url: "tcp://127.0.0.1:0" });
  closers.push(() => listener.close());
  return listener;
}

async function proxied(listener: Listener, budgets: readonly number[]): Promise<BreakingProxy> {
  const proxy = await BreakingProxy.open(Number(new URL(listener.url).port), budgets);
  closers.push(() => proxy.close());
  return proxy;
}

type Bytes = Map<string, Uint8Array>;
const bytesOf = (tensors: Model): Bytes =>
  new Map(Object.entries(tensors).map(([name, { data }]) => [name, new Uint8Array(data.buffer)]));

async function iterated(received: ReceivedModel): Promise<Bytes> {
  const found: Bytes = new Map();
  for await (const { name, data } of received) found.set(name, data.slice());
  return found;
}

async function inChunks(received: ReceivedModel): Promise<Bytes> {
  const parts = new Map<string, Uint8Array[]>([["empty", []]]);
  for await (const { name, data } of received.chunks()) {
    parts.set(name, [...(parts.get(name) ?? []), data.slice()]);
  }
  return new Map([...parts].map(([name, all]) => [name, Buffer.concat(all)]));
}

/** The model of a file. */
async function stored(path: string): Promise<Bytes> {
  const [out, back] = memoryChannelPair();
  const sending = streamModel(path, out);
  const found = await iterated(receiveModel(back));
  await sending;
  await out.close();
  return found;
}

/** Where a model can go: how it is received, and what came of it. */
const places: Record<
  string,
  (origin: string | Listener, options: ReceiveOptions) => [ReceivedModel, Promise<Bytes>]
> = {
  "tensor by tensor": (origin, options) => {
    const received = receiveModel(origin, options);
    return [received, iterated(received)];
  },
  "into one buffer that is lent": (origin, options) => {
    const received = receiveModel(origin, { ...options, borrow: true });
    return [received, iterated(received)];
  },
  "chunk by chunk": (origin, options) => {
    const received = receiveModel(origin, options);
    return [received, inChunks(received)];
  },
  "into a file": (origin, options) => {
    const to = at(`${Math.random()}.safetensors`);
    const received = receiveModel(origin, { ...options, to });
    return [received, received.done.then(() => stored(to))];
  },
  "into an artifact": (origin, options) => {
    const to = at(`${Math.random()}.twire`);
    const received = receiveModel(origin, { ...options, to });
    return [received, received.done.then(() => stored(to))];
  },
  "to a sink that makes checkpoints": (origin, options) => {
    const disk = new Disk();
    const received = receiveModel(origin, { ...options, to: new ResumableSink(disk) });
    return [
      received,
      received.done.then(() => new Map(Object.keys(model()).map((name, i) => [name, disk.tensors[i]!]))),
    ];
  },
};

// Not by toEqual: it looks at each byte by itself.
function expectSame(found: PromiseSettledResult<Bytes>, tensors: Model): void {
  if (found.status === "rejected") throw found.reason;
  const expected = bytesOf(tensors);
  expect([...found.value.keys()].toSorted()).toEqual([...expected.keys()].toSorted());
  for (const [name, bytes] of expected) {
    expect(Buffer.compare(found.value.get(name)!, bytes), name).toBe(0);
  }
}

const travelled = ({ codecs }: TransferSummary): number =>
  Object.values(codecs).reduce((sum, { sourceBytes }) => sum + sourceBytes, 0);

describe("with retry, a connection that breaks anywhere, over and over, is the end of nothing", () => {
  test.each(Object.entries(places))("%s", async (_name, receive) => {
    const tensors = model();
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(
          // The first of them gets as far as HELLO.
          fc.integer({ min: 1000, max: BYTES }),
          fc.array(fc.integer({ min: 1, max: BYTES }), { maxLength: 3 }),
        ),
        fc.boolean(),
        fc.boolean(),
        async ([first, others], senderListens, known) => {
          const listener = await listening();
          const proxy = await proxied(listener, [first, ...others]);
          const [destination, origin] = senderListens ? [listener, proxy.url] : [proxy.url, listener];
          const [received, result] = receive(origin, { windowBytes: WINDOW, retry: quick });
          const version = known ? "one" : undefined;
          const sending = streamModel(tensors, destination, { ...sizes, version, retry: quick });
          // A receiver that has everything is gone, whether or not its receipt came.
          const over = received.done.finally(() => listener.close());
          const [sent, got, bytes] = await Promise.allSettled([sending, over, result]);
          proxy.close();
          // The receiver has it, and could not say so: nobody is there to say it again.
          if (sent.status === "rejected") {
            if (got.status === "rejected") throw got.reason;
            expect(got).toMatchObject({ status: "fulfilled" });
          } else {
            const { digest, retries } = sent.value;
            expect(got).toMatchObject({ status: "fulfilled", value: { digest } });
            // One can break before HELLO, or when all is said.
            expect(retries).toBeLessThanOrEqual(proxy.broken);
            expect(travelled(sent.value)).toBeLessThanOrEqual(BYTES + retries * 2 * WINDOW);
          }
          expectSame(bytes, tensors);
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe("the count of attempts", () => {
  test("begins anew with progress only: what brings nothing is given up, with the first cause", async () => {
    const listener = await listening();
    const budgets = [BYTES / 2, ...Array.from({ length: 20 }, () => 3 * CHUNK)];
    const proxy = await proxied(listener, budgets);
    const events: RetryEvent[] = [];
    // The receiver forgets everything, each time: it never comes as far as the first one.
    const serve = async (): Promise<void> => {
      for (;;) {
        const { done } = receiveModel(listener, { windowBytes: WINDOW, to: new ResumableSink(new Disk()) });
        const ended = await done.then(
          () => true,
          ({ message }: Error) => message.includes("listener was closed"),
        );
        if (ended) return;
      }
    };
    const serving = serve();
    const retry = { ...quick, attempts: 4, onRetry: (event: RetryEvent) => void events.push(event) };
    const error = await streamModel(model(), proxy.url, { ...sizes, retry }).catch((reason) => reason);
    expect(events.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
    expect(proxy.connections).toBe(5);
    expect(error).toMatchObject({ code: "CHANNEL_CLOSED", retryable: true, cause: events[0]!.error });
    expect(error.message).toContain(events[0]!.error.message);
    expect(error.message).toContain("4 more attempts");
    await listener.close();
    await serving;
  });

  test("goes on as long as each attempt brings something", async () => {
    const listener = await listening();
    const budgets = Array.from({ length: 40 }, () => 3 * CHUNK);
    const proxy = await proxied(listener, budgets);
    const disk = new Disk();
    const receiving = receiveModel(listener, {
      windowBytes: WINDOW,
      to: new ResumableSink(disk),
      retry: quick,
    });
    const sent = await streamModel(model(), proxy.url, { ...sizes, retry: { ...quick, attempts: 2 } });
    expect(sent.retries).toBeGreaterThan(4);
    await receiving.done;
    expect(disk.finished).toBe(true);
  });
});

describe("what is not tried again", () => {
  test("an address where nobody says HELLO: nothing was interrupted", async () => {
    const listener = await listening();
    const { url } = listener;
    await listener.close();
    const onRetry = () => expect.unreachable("there is nothing to go on from");
    const retry = { ...quick, onRetry };
    await expect(streamModel(model(), url, { retry })).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
    await expect(receiveModel(url, { retry }).done).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
    // One that takes connections, and lets nobody in.
    const proxy = await proxied(await listening(), [1, 1]);
    const closed = { code: "CHANNEL_CLOSED" };
    await expect(streamModel(model(), proxy.url, { retry })).rejects.toMatchObject(closed);
    await expect(receiveModel(proxy.url, { retry }).done).rejects.toMatchObject(closed);
  });

  test("a source that can be read once: the types and the error say so", async () => {
    const infos = [{ name: "w", dtype: "F32", shape: [100_000] }] as const;
    const data = new Float32Array(100_000);
    const source = () => fromTensors(infos, [{ ...infos[0], data }]);
    // @ts-expect-error It cannot be read again.
    await expect(streamModel(source(), "tcp://127.0.0.1:1", { retry: true })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("only once"),
    });
    const listener = await listening();
    const proxy = await proxied(listener, [100_000]);
    const receiving = receiveModel(listener, { to: new ResumableSink(new Disk()) });
    await expect(streamModel(source(), proxy.url, sizes)).rejects.toMatchObject({
      code: "CHANNEL_CLOSED",
      retryable: false,
      message: expect.stringContaining("only once"),
    });
    await expect(receiving.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("what is open already, and files: they cannot be opened again", async () => {
    const [a, b] = memoryChannelPair();
    for (const place of [a, at("m.twire"), `file://${at("m.twire")}`]) {
      const refused = { code: "INVALID_ARGUMENT", message: expect.stringContaining("opened again") };
      await expect(streamModel(model(), place, { retry: true })).rejects.toMatchObject(refused);
      await expect(receiveModel(place, { retry: true }).done).rejects.toMatchObject(refused);
    }
    await Promise.all([a.close(), b.close()]);
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([
    ["attempts", -1],
    ["attempts", 1.5],
    ["initialDelayMs", 0],
    ["maxDelayMs", Number.NaN],
  ])("%s that are no count: %d", async (name, value) => {
    const retry = { [name]: value };
    await expect(streamModel(model(), "tcp://127.0.0.1:1", { retry })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining(name),
    });
  });

  test("a sink that fails, a peer that gives up, and a consumer that stops", async () => {
    const onRetry = () => expect.unreachable("that is no interruption");
    const retry = { ...quick, onRetry };
    const broken = Object.assign(new ResumableSink(new Disk()), {
      write: () => Promise.reject(new TensorwireError("TARGET_FULL", "no room")),
    });
    const full = await listening();
    const receiving = receiveModel(full, { to: broken, retry });
    // Retryable as the peer says it is: a sender may wait for room.
    await expect(streamModel(model(), full.url, sizes)).rejects.toMatchObject({ peerCode: "TARGET_FULL" });
    await expect(receiving.done).rejects.toMatchObject({ code: "TARGET_FULL" });

    const aborted = await listening();
    const abort = new AbortController();
    const waiting = receiveModel(aborted, { to: new ResumableSink(new Disk()), retry });
    const sending = streamModel(model(), aborted.url, { ...sizes, signal: abort.signal });
    waiting.manifest.then(() => abort.abort(new Error("enough")));
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    await expect(waiting.done).rejects.toMatchObject({ code: "ABORTED" });

    const left = await listening();
    const received = receiveModel(left, { windowBytes: WINDOW, retry });
    const toConsumer = streamModel(model(), left.url, { ...sizes, retry });
    toConsumer.catch(() => {});
    for await (const _ of received) break;
    await expect(received.done).rejects.toMatchObject({ code: "SINK_CLOSED" });
    await expect(toConsumer).rejects.toMatchObject({ peerCode: "SINK_CLOSED" });
  });
});

describe("while it waits for the next attempt", () => {
  const forever = { initialDelayMs: 2 ** 30, maxDelayMs: 2 ** 30 };

  test.each(["send", "receive"] as const)("a signal ends it at once: %s", async (role) => {
    const listener = await listening();
    const proxy = await proxied(listener, [BYTES / 2]);
    const abort = new AbortController();
    const onRetry = () => queueMicrotask(() => abort.abort(new Error("enough")));
    const dialling = { retry: { ...forever, onRetry }, signal: abort.signal };
    const to = () => new ResumableSink(new Disk());
    const [dialled, other] =
      role === "send"
        ? [
            streamModel(model(), proxy.url, { ...sizes, ...dialling }),
            receiveModel(listener, { to: to() }).done,
          ]
        : [receiveModel(proxy.url, { ...dialling, to: to() }).done, streamModel(model(), listener, sizes)];
    const [mine, theirs] = await Promise.allSettled([dialled, other]);
    expect(mine).toMatchObject({ reason: { code: "ABORTED", message: expect.stringContaining("enough") } });
    expect(theirs).toMatchObject({ reason: { code: "CHANNEL_CLOSED" } });
  });

  test("a consumer that stops ends it, also at a listener where nobody comes any more", async () => {
    const listener = await listening();
    const proxy = await proxied(listener, [BYTES / 2]);
    const retry = { ...quick };
    const received = receiveModel(listener, { windowBytes: WINDOW, retry });
    const sending = streamModel(model(), proxy.url, sizes);
    await expect(
      (async () => {
        for await (const _ of received) {
          await sending.catch(() => {});
          break;
        }
        await received.done;
      })(),
    ).rejects.toMatchObject({ code: "SINK_CLOSED" });
    await expect(sending).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("what onRetry throws is the end of the transfer, and of nothing else", async () => {
    const listener = await listening();
    const proxy = await proxied(listener, [BYTES / 2]);
    const onRetry = (): never => {
      throw new Error("I am not well");
    };
    const receiving = receiveModel(listener, { to: new ResumableSink(new Disk()) });
    const sending = streamModel(model(), proxy.url, { ...sizes, retry: { ...quick, onRetry } });
    await expect(sending).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("not well"),
    });
    await expect(receiving.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });
});

describe("a peer that comes back with something else", () => {
  const other = model(["other", "tensors"]);

  async function twice(
    to: ReceiveOptions["to"],
    first: Model,
    second: Model,
    versions: readonly [string?, string?] = [],
  ): Promise<[PromiseSettledResult<TransferSummary>, ReceivedModel]> {
    const listener = await listening();
    const proxy = await proxied(listener, [BYTES / 2]);
    const received = receiveModel(listener, { windowBytes: WINDOW, to, retry: quick });
    if (to === undefined) iterated(received).catch(() => {});
    await expect(streamModel(first, proxy.url, { ...sizes, version: versions[0] })).rejects.toMatchObject({
      code: "CHANNEL_CLOSED",
    });
    const [sent] = await Promise.allSettled([
      streamModel(second, proxy.url, { ...sizes, version: versions[1] }),
    ]);
    return [sent, received];
  }

  test("another model: an iterator cannot go on, and says so", async () => {
    const [sent, received] = await twice(undefined, model(), other);
    await expect(received.done).rejects.toMatchObject({
      code: "SOURCE_CHANGED",
      message: expect.stringContaining("another model"),
    });
    expect(sent).toMatchObject({ reason: { code: "PEER_FAILED", peerCode: "SOURCE_CHANGED" } });
  });

  test("another model: a file begins anew, and nothing of the first is in it", async () => {
    const to = at("m.safetensors");
    const [sent, received] = await twice(to, model(), other);
    expect(sent.status).toBe("fulfilled");
    await received.done;
    expect(await readdir(folder)).toEqual(["m.safetensors"]);
    expectSame({ status: "fulfilled", value: await stored(to) }, other);
  });

  test.each([
    ["with versions", ["one", "two"]],
    ["without", []],
  ] as const)(
    "the same model, changed: a sink that can take chunks again does, %s",
    async (_how, versions) => {
      const disk = new Disk();
      const changed = model();
      changed.a!.data[5] = 99;
      const [sent, received] = await twice(new ResumableSink(disk), model(), changed, versions);
      expect(sent.status).toBe("fulfilled");
      await received.done;
      expect(disk.forgotten).toEqual([0]);
      expect(Buffer.compare(disk.tensors[0]!, new Uint8Array(changed.a!.data.buffer))).toBe(0);
    },
  );

  test("a version that comes back after another one is not trusted: the other one's chunks may be there", async () => {
    const listener = await listening();
    const proxy = await proxied(listener, [BYTES / 2, BYTES / 4]);
    const disk = new Disk();
    const to = new ResumableSink(disk);
    const received = receiveModel(listener, { windowBytes: WINDOW, to, retry: quick });
    const changed = model();
    for (const { data } of Object.values(changed)) data.fill(7);
    const broken = { code: "CHANNEL_CLOSED" };
    await expect(streamModel(model(), proxy.url, { ...sizes, version: "one" })).rejects.toMatchObject(broken);
    await expect(streamModel(changed, proxy.url, { ...sizes, version: "two" })).rejects.toMatchObject(broken);
    expect(disk.forgotten.length).toBeGreaterThan(0);
    await streamModel(model(), proxy.url, { ...sizes, version: "one" });
    await received.done;
    Object.values(model()).forEach(({ data }, i) => {
      expect(Buffer.compare(disk.tensors[i]!, new Uint8Array(data.buffer))).toBe(0);
    });
  });

  const sinks: Record<string, (path: string) => ReceiveOptions["to"]> = {
    "a path": (path) => path,
    "a path that a function gives": (path) => () => path,
    "a sink": (path) => safetensorsSink(path),
    "a set of shards": () => shardedSafetensorsSink(at("set.safetensors"), { maxShardBytes: 200_000 }),
  };
  test.each(Object.entries(sinks))("nor is it by a process after this one: %s", async (_where, sink) => {
    const changed = model();
    for (const { data } of Object.values(changed)) data.fill(7);
    const broken = { code: "CHANNEL_CLOSED" };
    const interrupted: (readonly [Model, string | undefined, number])[][] = [
      [
        [model(), "one", BYTES / 2],
        [changed, "two", BYTES / 3],
      ],
      // Of the first one nothing came.
      [
        [model(), "one", 2500],
        [changed, "two", BYTES / 2],
      ],
      [
        [model(), "one", BYTES / 4],
        [changed, undefined, BYTES / 2],
      ],
      // The last shard was begun when the first one changes.
      [
        [model(), "one", BYTES * 0.95],
        [changed, "two", BYTES / 2],
        [model(), "three", BYTES / 3],
      ],
    ];
    for (const calls of interrupted) {
      const path = at("m.safetensors");
      const listener = await listening();
      const proxy = await proxied(
        listener,
        calls.map(([, , bytes]) => bytes),
      );
      const abort = new AbortController();
      const options = { windowBytes: WINDOW, signal: abort.signal, retry: quick };
      const first = receiveModel(listener, { ...options, to: sink(path) });
      for (const [tensors, version] of calls) {
        await expect(streamModel(tensors, proxy.url, { ...sizes, version })).rejects.toMatchObject(broken);
      }
      abort.abort();
      await expect(first.done).rejects.toMatchObject({ code: "ABORTED" });
      const second = receiveModel(listener, { windowBytes: WINDOW, to: sink(path) });
      await streamModel(model(), listener.url, { ...sizes, version: "one" });
      await second.done;
      const files = await readdir(folder);
      const complete = files.find((file) => file.endsWith(".index.json")) ?? files[0]!;
      expectSame({ status: "fulfilled", value: await stored(at(complete)) }, model());
      for (const file of files) await rm(at(file));
    }
  });

  test("the same model, changed: what an iterator has given is not taken back", async () => {
    const changed = model();
    changed.a!.data[5] = 99;
    const [sent, received] = await twice(undefined, model(), changed);
    await expect(received.done).rejects.toMatchObject({ code: "SOURCE_CHANGED", tensor: "a", chunk: 0 });
    expect(sent).toMatchObject({ reason: { peerCode: "SOURCE_CHANGED" } });
  });
});
