import { type AddressInfo, createServer, connect as dialTcp, type Server, type Socket } from "node:net";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import {
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeCredit,
  encodeFrame,
  encodeManifest,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  type Manifest,
  parseManifest,
} from "@tensorwire/core";
import { afterEach, describe, expect, test } from "vitest";
import { processBudget } from "../src/budget/process-budget.js";
import { discardSlab } from "../src/budget/slab-memory.js";
import { JOINED_BYTES } from "../src/sink/adjoining-writes.js";
import {
  duplexChannel,
  MemoryBudget,
  type ModelSink,
  type ReceiveOptions,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TransferSummary,
} from "../src/index.js";
import { ScriptedPeer } from "./scripted-peer.js";

const KiB = 1024;
const CHUNK = 32 * KiB;
const WINDOW = 16 * CHUNK;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** What a server does with each connection, and what came of it. */
async function serving(serve: (socket: Socket) => Promise<TransferSummary>) {
  const results: Promise<TransferSummary>[] = [];
  const server: Server = createServer((socket) => {
    const result = serve(socket);
    result.catch(() => {});
    results.push(result);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const connect = (): Socket => {
    const socket = dialTcp(port, "127.0.0.1");
    closers.push(() => socket.destroy());
    return socket;
  };
  return { results, connect };
}

const sinkOf = (write: ModelSink["write"]): ModelSink => ({
  name: "sink",
  parallel: false,
  async open() {},
  // What has places joins no small writes, for which there would have to be memory too.
  place: () => undefined,
  write,
  async finish() {},
  async abort() {},
});

const receiving = (budget: MemoryBudget, options: ReceiveOptions = {}) =>
  serving((socket) => {
    const sink = sinkOf(() => undefined);
    return receiveModel(duplexChannel(socket), { budget, windowBytes: WINDOW, to: sink, ...options }).done;
  });

const weights = Float32Array.from({ length: (64 * CHUNK) / 4 }, (_, i) => Math.sin(i));
const model = { weights: { dtype: "F32", shape: [weights.length], data: weights } } as const;
const sending = (budget: MemoryBudget, options: StreamOptions = {}) =>
  serving((socket) =>
    streamModel(model, duplexChannel(socket), { budget, windowBytes: WINDOW, chunkBytes: CHUNK, ...options }),
  );

const send = (socket: Socket, options: StreamOptions = {}): Promise<TransferSummary> =>
  streamModel(model, duplexChannel(socket), { windowBytes: WINDOW, chunkBytes: CHUNK, ...options });

const manifest: Manifest = {
  kind: "model",
  chunkBytes: CHUNK,
  metadata: new Map(),
  tensors: [{ name: "weights", dtype: "F32", shape: [weights.length], codec: { name: "none" } }],
};
const plan = parseManifest(encodeManifest(manifest), DEFAULT_LIMITS, defaultCodecs).plan;

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A receiver's first step: its payload, and room for it decoded, each in a slab. */
const MINIMUM = 2 * CHUNK;
/** Without a way back, what comes with a chunk may begin the next one. */
const ONE_WAY_MINIMUM = MINIMUM + CHUNK;

/** The model as a file. */
async function artifact(): Promise<{ path: string; digest: string }> {
  const path = join(tmpdir(), `tensorwire-budget-${process.pid}-${Math.random()}.twire`);
  closers.push(() => rm(path, { force: true }));
  const { digest } = await streamModel(model, path, { chunkBytes: CHUNK });
  return { path, digest };
}

describe("a receiver", () => {
  test("of a peer that announces a model and sends nothing holds one chunk, where there is no plenty", async () => {
    const budget = new MemoryBudget(20 * MINIMUM);
    const { connect, results } = await receiving(budget);
    for (let i = 0; i < 20; i++) {
      const peer = new ScriptedPeer(duplexChannel(connect()));
      await peer.hello("send");
      await peer.say(FrameType.MANIFEST, encodeManifest(manifest));
      if (i < 10) await peer.hears(FrameType.WANT);
    }
    await until(() => budget.transfers + budget.waiting === 20);
    // A quarter is plenty: what it takes may keep some of the last ones waiting, who hold nothing.
    expect(budget.transfers).toBeGreaterThanOrEqual(15);
    expect(budget.reservedBytes).toBeLessThanOrEqual(budget.bytes);
    const quarter = budget.bytes / 4;
    expect(budget.reservedBytes - budget.transfers * MINIMUM).toBeLessThanOrEqual(quarter);
    expect(results).toHaveLength(20);
  });

  test("moves a model while such peers hold theirs, and gives all of it back when they go", async () => {
    const budget = new MemoryBudget(20 * MINIMUM);
    const { connect, results } = await receiving(budget);
    const idle: Socket[] = [];
    for (let i = 0; i < 12; i++) {
      const socket = connect();
      idle.push(socket);
      const peer = new ScriptedPeer(duplexChannel(socket));
      await peer.hello("send");
      await peer.say(FrameType.MANIFEST, encodeManifest(manifest));
      await peer.hears(FrameType.WANT);
    }
    for (const codec of ["none", "float16"]) {
      expect(await send(connect(), { codec })).toMatchObject({ confirmed: true });
    }
    expect(budget.transfers).toBe(12);
    for (const socket of idle) socket.destroy();
    await Promise.allSettled(results);
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("that has no room waits, holds nothing, and goes on when there is some", async () => {
    const budget = new MemoryBudget(MINIMUM);
    const { connect, results } = await receiving(budget);
    const first = connect();
    const idle = new ScriptedPeer(duplexChannel(first));
    await idle.hello("send");
    await idle.say(FrameType.MANIFEST, encodeManifest(manifest));
    await idle.hears(FrameType.WANT);
    const sendings = [send(connect()), send(connect())];
    await until(() => budget.waiting === 2);
    expect(budget.reservedBytes).toBe(MINIMUM);
    first.destroy();
    for (const sending of sendings) expect((await sending).confirmed).toBe(true);
    await Promise.allSettled(results);
    expect(budget.reservedBytes).toBe(0);
  });

  test("that waits lets its user go, and the peer hears of it", async () => {
    const budget = new MemoryBudget(MINIMUM);
    const ending = new AbortController();
    const { connect, results } = await receiving(budget, { signal: ending.signal });
    const idle = new ScriptedPeer(duplexChannel(connect()));
    await idle.hello("send");
    await idle.say(FrameType.MANIFEST, encodeManifest(manifest));
    await idle.hears(FrameType.WANT);
    const sending = send(connect());
    await until(() => budget.waiting === 1);
    ending.abort(new Error("enough"));
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    await Promise.allSettled(results);
    expect([budget.reservedBytes, budget.waiting]).toEqual([0, 0]);
  });

  test("takes a model chunk by chunk where there is no room for more, by any codec and packed too", async () => {
    for (const [codec, minimum] of [
      ["none", MINIMUM],
      ["normfloat4", 3 * CHUNK],
      ["lossless", 3 * CHUNK],
    ] as const) {
      const budget = new MemoryBudget(minimum);
      const { connect, results } = await receiving(budget);
      const summary = await send(connect(), { codec, compress: "auto" });
      expect(await results[0]).toMatchObject({ digest: summary.digest });
    }
  });

  test("refuses what it can never have room for", async () => {
    const { connect, results } = await receiving(new MemoryBudget(MINIMUM - 1));
    await expect(send(connect())).rejects.toMatchObject({ code: "PEER_FAILED", peerCode: "LIMIT_EXCEEDED" });
    await expect(results[0]).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
  });

  test("has its whole window at once where there is plenty", async () => {
    const budget = new MemoryBudget(64 * 1024 * KiB);
    const { connect } = await receiving(budget);
    const peer = new ScriptedPeer(duplexChannel(connect()));
    await peer.hello("send");
    await peer.say(FrameType.MANIFEST, encodeManifest(manifest));
    const want = await peer.hears(FrameType.WANT);
    expect(new DataView(want!.buffer, want!.byteOffset).getBigUint64(0, true)).toBe(BigInt(WINDOW));
  });

  test("of a channel with one direction makes it wait", async () => {
    const budget = new MemoryBudget(ONE_WAY_MINIMUM + JOINED_BYTES);
    const { path, digest } = await artifact();
    const hash = createHash("sha256");
    const received = receiveModel(path, { budget, windowBytes: WINDOW });
    for await (const { data } of received.chunks()) hash.update(data);
    expect(await received.done).toMatchObject({ digest });
    expect(hash.digest("hex")).toBe(
      createHash("sha256").update(new Uint8Array(weights.buffer)).digest("hex"),
    );
    expect(budget.reservedBytes).toBe(0);
  });

  test("of a channel with one direction gets to the end of its one chunk, in however many portions", async () => {
    const { path, digest } = await artifact();
    const pipe = Readable.from(createReadStream(path, { highWaterMark: 1000 }), { highWaterMark: 1 });
    const budget = new MemoryBudget(ONE_WAY_MINIMUM);
    const received = receiveModel(
      { readable: pipe },
      { budget, windowBytes: WINDOW, to: sinkOf(() => undefined) },
    );
    expect(await received.done).toMatchObject({ digest });
    expect(budget.reservedBytes).toBe(0);
  });

  test("of a channel with one direction gives back what is not plenty, and does not take it again", async () => {
    const { path, digest } = await artifact();
    const slow = sinkOf(() => new Promise((resolve) => setTimeout(resolve, 1)));
    for (const windows of [1, 1.5, 2, 3, 5]) {
      const budget = new MemoryBudget(windows * 2 * WINDOW);
      const received = receiveModel(path, { budget, windowBytes: WINDOW, to: slow });
      expect(await received.done).toMatchObject({ digest });
      expect(budget.reservedBytes).toBe(0);
    }
  });
});

describe("a sender", () => {
  test("of a peer that never asks for anything holds nothing", async () => {
    const budget = new MemoryBudget(64 * 1024 * KiB);
    const { connect } = await sending(budget);
    const peer = new ScriptedPeer(duplexChannel(connect()));
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    expect([budget.reservedBytes, budget.waiting]).toEqual([0, 0]);
  });

  test("of a peer that takes the first chunk and gives no more credit holds one step", async () => {
    const budget = new MemoryBudget(16 * 1024 * KiB);
    const { connect } = await sending(budget, { codec: "float16", minElements: 0 });
    const peer = new ScriptedPeer(duplexChannel(connect()));
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    const want = encodeWant({ windowBytes: CHUNK, ranges: [{ first: 0, count: plan.chunks }] });
    await peer.say(FrameType.WANT, want, { flags: FLAG_TO_SENDER });
    await until(() => peer.chunks.length === 1);
    const { reservedBytes } = budget;
    expect(reservedBytes).toBeGreaterThan(0);
    expect(budget.transfers).toBe(1);
    const { connect: other } = await sending(budget);
    const received = receiveModel(duplexChannel(other()), { windowBytes: WINDOW });
    for await (const _ of received);
    expect((await received.done).sourceBytes).toBe(plan.bytes);
    await until(() => budget.transfers === 1);
    expect(budget.reservedBytes).toBe(reservedBytes);
  });

  test("takes more credit in the same portion as the first", async () => {
    const { connect, results } = await sending(new MemoryBudget(16 * 1024 * KiB));
    const peer = new ScriptedPeer(duplexChannel(connect()));
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    const want = encodeWant({ windowBytes: CHUNK, ranges: [{ first: 0, count: plan.chunks }] });
    const credit = encodeCredit({ limit: 2 * CHUNK, finished: 0 });
    const frames = [encodeFrame(FrameType.WANT, 1, FLAG_TO_SENDER, want)];
    frames.push(encodeFrame(FrameType.CREDIT, 1, FLAG_TO_SENDER, credit));
    await peer.raw(Buffer.concat(frames));
    await Promise.race([until(() => peer.chunks.length === 2), results[0]]);
    expect(peer.chunks).toHaveLength(2);
  });

  test("sends step by step where there is no room for more", async () => {
    for (const codec of ["none", "normfloat4", "lossless"]) {
      const budget = new MemoryBudget(16 * 1024 * KiB);
      const tight = new MemoryBudget(6 * 1024 * KiB);
      const summaries: TransferSummary[] = [];
      for (const each of [budget, tight]) {
        const { connect, results } = await sending(each, { codec, compress: "auto" });
        const received = receiveModel(duplexChannel(connect()), { windowBytes: WINDOW });
        for await (const _ of received);
        summaries.push(await received.done);
        await results[0];
        expect(each.reservedBytes).toBe(0);
      }
      expect(summaries[0]!.digest).toBe(summaries[1]!.digest);
    }
  });
});

test("the process has a budget for each direction: a quarter of the memory that it may use", () => {
  const [sending, receiving] = [processBudget("send"), processBudget("receive")];
  expect(sending).not.toBe(receiving);
  for (const [budget, direction] of [
    [sending, "send"],
    [receiving, "receive"],
  ] as const) {
    expect(processBudget(direction)).toBe(budget);
    expect(budget.bytes).toBeGreaterThan(2 ** 26);
    expect(budget.bytes).toBeLessThanOrEqual(totalmem() / 4);
  }
});

test("a slab that is discarded is nobody's any more, at once", () => {
  const buffer = new ArrayBuffer(1024 * KiB);
  const view = new Uint8Array(buffer);
  discardSlab(buffer);
  expect([buffer.byteLength, view.length]).toEqual([0, 0]);
});
