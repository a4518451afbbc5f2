import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { encodeManifest, FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  duplexChannel,
  MemoryBudget,
  type ReceiveOptions,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TransferSummary,
} from "../src/index.js";
import { JOINED_BYTES } from "../src/sink/adjoining-writes.js";
import {
  CHUNK,
  closers,
  KiB,
  manifest,
  model,
  serving,
  sinkOf,
  until,
  WINDOW,
  weights,
} from "./budget-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

const receiving = (budget: MemoryBudget, options: ReceiveOptions = {}) =>
  serving((socket) => {
    const sink = sinkOf(() => undefined);
    return receiveModel(duplexChannel(socket), { budget, windowBytes: WINDOW, to: sink, ...options }).done;
  });

const send = (socket: Socket, options: StreamOptions = {}): Promise<TransferSummary> =>
  streamModel(model, duplexChannel(socket), { windowBytes: WINDOW, chunkBytes: CHUNK, ...options });

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
