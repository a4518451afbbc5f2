import { encodeCredit, encodeFrame, encodeWant, FLAG_TO_SENDER, FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  duplexChannel,
  MemoryBudget,
  receiveModel,
  type StreamOptions,
  streamModel,
  type TransferSummary,
} from "../src/index.js";
import { CHUNK, KiB, model, plan, serving, until, WINDOW } from "./budget-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

const sending = (budget: MemoryBudget, options: StreamOptions = {}) =>
  serving((socket) =>
    streamModel(model, duplexChannel(socket), { budget, windowBytes: WINDOW, chunkBytes: CHUNK, ...options }),
  );

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
