import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { PassThrough } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { type ChannelPair, channelSuite } from "@tensorwire/core/testing";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ByteRate } from "../src/channel/byte-rate.js";
import {
  duplexChannel,
  memoryChannelPair,
  receiveModel,
  streamModel,
  throttledChannel,
} from "../src/index.js";

const FAST = 2 ** 30;

channelSuite("throttled, over TCP", async (): Promise<ChannelPair> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const dialled = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [accepted] = (await once(server, "connection")) as [Socket];
  return {
    left: throttledChannel(duplexChannel(dialled), FAST),
    right: throttledChannel(duplexChannel(accepted), FAST),
    stall: () => {
      accepted.pause();
      return () => accepted.resume();
    },
    vanish: () => void accepted.destroy(),
    dispose: () => void server.close(),
  };
});

test("a rate is waited for after it is spent, and is not saved up", () => {
  let now = 0;
  const rate = new ByteRate(1000, () => now);
  now += 60_000;
  expect(rate.delay).toBe(0);
  rate.spend(5000);
  expect(rate.delay).toBe(5000);
  now += 2000;
  rate.spend(500);
  expect(rate.delay).toBe(3500);
  now += 3500;
  expect(rate.delay).toBe(0);
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])(
  "%s bytes a second is an argument at fault",
  async (rate) => {
    const [a, b] = memoryChannelPair();
    for (const done of [
      streamModel({}, a, { maxBytesPerSecond: rate }),
      receiveModel(b, { maxBytesPerSecond: rate }).done,
    ]) {
      await expect(done).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  },
);

describe("by a clock of its own", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
  afterEach(() => void vi.useRealTimers());

  /** Lets what needs no clock happen. */
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 200; i++) await turn();
  };
  const advance = async (milliseconds: number): Promise<void> => {
    // In steps: what one timer begins sets the next.
    for (let at = 0; at < milliseconds; at += 10) {
      await vi.advanceTimersByTimeAsync(10);
      for (let i = 0; i < 4; i++) await turn();
    }
  };

  test("sends its rate, second by second, in order, and queues nothing", async () => {
    const [a, b] = memoryChannelPair();
    const channel = throttledChannel(a, 100_000);
    const came: number[] = [];
    let bytes = 0;
    let last = -1;
    channel.open({ bytes: () => {}, end: () => {} });
    b.open({
      bytes: (portion) => {
        bytes += portion.length;
        if (last >= 0) expect(portion[0]).toBeGreaterThanOrEqual(last);
        last = portion.at(-1)!;
      },
      end: () => {},
    });
    let sent = 0;
    for (let i = 0; i < 4; i++)
      channel.send([new Uint8Array(100_000).fill(i)]).then(
        () => sent++,
        () => {},
      );
    for (let second = 1; second <= 3; second++) {
      await advance(1000);
      came.push(bytes);
    }
    for (const [i, total] of came.entries()) {
      expect(total).toBeGreaterThan((i + 1) * 100_000 * 0.85);
      expect(total).toBeLessThanOrEqual((i + 1) * 100_000 + 5000);
    }
    expect(sent).toBe(Math.floor(came[2]! / 100_000));
    await channel.close(new Error("enough"));
  });

  const data = new Float32Array(250_000).map((_, i) => i);
  const model = { w: { dtype: "F32", shape: [data.length], data } } as const;
  const terms = { chunkBytes: 32_768, windowBytes: 65_536 };

  test.each(["sender", "receiver"])("a transfer keeps the pace of its %s, and arrives whole", async (who) => {
    const [a, b] = memoryChannelPair();
    const rate = (end: string) => ({ ...terms, maxBytesPerSecond: end === who ? 100_000 : undefined });
    const received = receiveModel(b, rate("receiver"));
    let bytes = 0;
    const reading = (async () => {
      for await (const { data: portion } of received.chunks()) bytes += portion.length;
    })();
    let done = false;
    const sending = streamModel(model, a, rate("sender")).then((summary) => {
      done = true;
      return summary;
    });
    await settle();
    await advance(5000);
    // Credit goes out a window ahead of the receiver's pace.
    expect(bytes).toBeLessThanOrEqual(5 * 100_000 + 65_536 + 32_768);
    expect(bytes).toBeGreaterThan(5 * 100_000 * 0.7);
    expect(done).toBe(false);
    await advance(8000);
    await reading;
    expect(bytes).toBe(1_000_000);
    expect(await sending).toMatchObject({ confirmed: true });
  });

  test("a channel without a way back waits too", async () => {
    const pipe = new PassThrough();
    const received = receiveModel({ readable: pipe }, { ...terms, maxBytesPerSecond: 100_000 });
    let bytes = 0;
    const reading = (async () => {
      for await (const { data: portion } of received.chunks()) bytes += portion.length;
    })();
    const sending = streamModel(model, { writable: pipe }, terms);
    await settle();
    await advance(5000);
    expect(bytes).toBeLessThanOrEqual(5 * 100_000 + 3 * 65_536);
    expect(bytes).toBeGreaterThan(5 * 100_000 * 0.7);
    await advance(8000);
    await Promise.all([reading, sending]);
  });

  test.each(["sender", "receiver"])(
    "a cancelled transfer does not wait, and its peer hears why (%s)",
    async (who) => {
      const [a, b] = memoryChannelPair();
      const cancel = new AbortController();
      const slow = { ...terms, maxBytesPerSecond: 1000, signal: cancel.signal };
      const received = receiveModel(b, who === "receiver" ? slow : terms);
      const reading = (async () => {
        for await (const _ of received.chunks());
      })();
      const sending = streamModel(model, a, who === "sender" ? slow : terms);
      const results = Promise.allSettled([sending, reading]);
      await settle();
      await advance(500);
      cancel.abort(new Error("enough"));
      // Not a tick of the clock.
      await settle();
      const ends = await results;
      for (const end of ends) {
        expect(end).toMatchObject({ status: "rejected", reason: { code: "ABORTED" } });
      }
      await Promise.all([a.close(new Error("over")), b.close(new Error("over"))]);
    },
  );
});
