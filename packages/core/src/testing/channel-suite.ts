import { afterEach, describe, expect, it } from "vitest";
import type { Channel } from "../channel.js";
import {
  all,
  follow,
  Impatience,
  joined,
  KiB,
  many,
  pattern,
  pause,
  Recorder,
  settled,
  within,
} from "./channel-recorder.js";
import { firstDifference } from "./equality.js";
import { pseudoRandom } from "./samples.js";

/** Two ends of one new channel, neither of them opened. */
export interface ChannelPair {
  readonly left: Channel;
  readonly right: Channel;
  /** Keeps the right end's process from taking bytes off the wire, until the function that it returns is called. */
  stall?(): () => void;
  /** Ends the right end as the death of its process would. */
  vanish?(): void;
  /** Frees what is not the channels': servers, files. */
  dispose?(): void | Promise<void>;
}

export interface ChannelSuiteOptions {
  /** False for a channel within one process: its pairs can neither be stalled nor vanish. */
  readonly wire?: boolean;
  /** Bytes that a stalled peer's side of the wire may take before `send` waits: the system's buffers. Default 16 MiB. */
  readonly wireBytes?: number;
  /** The largest parts to send. Default 3 MiB. */
  readonly largeBytes?: number;
}

/** What must not wait for a peer, but for the moment that its last words may take. */
const AT_ONCE_MS = 5_000;

/**
 * Registers the tests that any channel with two directions must pass: what `Channel` and `ChannelReceiver` promise.
 * @param makePair Makes a new pair for each test.
 */
export function channelSuite(
  name: string,
  makePair: () => ChannelPair | Promise<ChannelPair>,
  options: ChannelSuiteOptions = {},
): void {
  const { wire = true, wireBytes = 16 * KiB * KiB, largeBytes = 3 * KiB * KiB + 7 } = options;
  const opened: { pair: ChannelPair; receivers: Recorder[] }[] = [];

  /** Registers a test that needs a wire, where there is one: a test that is skipped everywhere tells nobody anything. */
  function onWire(title: string, test: () => Promise<void>): void {
    if (wire) it(title, test);
  }

  async function open(): Promise<OpenPair> {
    const pair = await makePair();
    const toLeft = new Recorder();
    const toRight = new Recorder();
    opened.push({ pair, receivers: [toLeft, toRight] });
    pair.left.open(toLeft);
    pair.right.open(toRight);
    const { left, right } = pair;
    return { pair, left, right, toLeft, toRight };
  }

  // Whatever a test was about: both ends can be dropped, and nothing is called after the end.
  afterEach(async () => {
    for (const { pair, receivers } of opened.splice(0)) {
      const dropped = [pair.left, pair.right].map((channel) => channel.close(new Error("the test is over")));
      await within(Promise.all(dropped), "closing with an error", AT_ONCE_MS);
      await pause(5);
      await pair.dispose?.();
      for (const receiver of receivers) expect(receiver.faults).toEqual([]);
    }
  });

  describe(`channel ${name}`, () => {
    it("says that it goes both ways", async () => {
      const { left, right } = await open();
      for (const channel of [left, right]) {
        expect(channel.direction).toBe("both");
        expect(channel.kind).toMatch(/^[a-z]+$/);
      }
    });

    it("carries parts of any size, both ways at once", async () => {
      const { left, right, toLeft, toRight } = await open();
      const sizes = [0, 1, 255, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, largeBytes, 3, largeBytes >> 1];
      const ways = [
        { from: left, to: toRight, parts: sizes.map((size, i) => pattern(size, i)) },
        { from: right, to: toLeft, parts: sizes.map((size, i) => pattern(size, i + 100)).reverse() },
      ];
      await all(
        ways.map(async ({ from, to, parts }) => {
          // The first at once, the others one by one.
          await from.send(parts.slice(0, 4));
          for (const part of parts.slice(4)) await from.send([part]);
          await to.expect(joined(parts));
        }),
      );
    });

    it("carries many small parts, in calls that are not waited for", async () => {
      const { left, right, toLeft, toRight } = await open();
      const random = pseudoRandom(5);
      const calls = (seed: number): Uint8Array[][] =>
        Array.from({ length: 150 }, (_, call) =>
          Array.from({ length: Math.floor(random() * 20) }, (_, i) =>
            pattern(Math.floor(random() * (call % 10 ? 60 : 3000)), seed + call * 31 + i),
          ),
        );
      const ways = [
        { from: left, to: toRight, parts: calls(1) },
        { from: right, to: toLeft, parts: calls(2) },
      ];
      await all(
        ways.flatMap(({ from, to, parts }) => {
          const sent = parts.map((call) => from.send(call));
          return [...sent, to.expect(joined(parts.flat()))];
        }),
      );
    });

    it("resolves for nothing at all", async () => {
      const { left, toRight } = await open();
      await within(left.send([]), "sending no parts");
      await within(left.send([new Uint8Array(0), new Uint8Array(0)]), "sending empty parts");
      await left.send([pattern(3, 1)]);
      await toRight.expect(pattern(3, 1));
    });

    it("has read the parts when send resolves: they may be written over", async () => {
      const { pair, left, toRight } = await open();
      const resume = pair.stall?.();
      const expected: Uint8Array[] = [];
      const sends: Promise<void>[] = [];
      for (let i = 0; i < 40; i++) {
        // Small ones first: a wire takes some of them though nobody reads.
        const size = i < 20 ? 30 : i % 4 ? 3000 : 40 * KiB;
        const parts = [pattern(10, i), pattern(size, i + 50), pattern(20, i + 99)];
        expected.push(...parts.map((part) => part.slice()));
        const send = left.send(parts).then(() => {
          for (const part of parts) part.fill(0xee);
        });
        sends.push(send);
        if (!resume) await send;
      }
      await pause(20);
      resume?.();
      await all(sends);
      await toRight.expect(joined(expected));
    });

    it("never writes to the parts", async () => {
      const { left, toRight } = await open();
      const parts = [pattern(5, 1), pattern(100 * KiB, 2), pattern(400 * KiB, 3)];
      const copies = parts.map((part) => part.slice());
      await within(left.send(parts), "sending");
      await toRight.expect(joined(copies));
      expect(firstDifference(joined(parts), joined(copies))).toBe(-1);
    });

    it("takes parts that are views into larger buffers", async () => {
      const { left, toRight } = await open();
      const buffer = pattern(300 * KiB, 4);
      const parts = [buffer.subarray(7, 20), buffer.subarray(1000, 280 * KiB), buffer.subarray(3, 3)];
      await within(left.send(parts), "sending");
      await toRight.expect(joined(parts));
    });

    it("may be answered from within the receiver", async () => {
      const pair = await makePair();
      const toLeft = new Recorder();
      const echoes: Promise<void>[] = [];
      const echo = new Recorder((portion) => {
        echoes.push(pair.right.send([portion.slice()]));
      });
      opened.push({ pair, receivers: [toLeft, echo] });
      pair.left.open(toLeft);
      pair.right.open(echo);
      const parts = [1, 5000, 1, 20_000].map((size, i) => pattern(size, i));
      for (const part of parts) await pair.left.send([part]);
      await toLeft.expect(joined(parts));
      await all(echoes);
    });

    it("keeps what came before it was opened", async () => {
      const pair = await makePair();
      const toLeft = new Recorder();
      const toRight = new Recorder();
      opened.push({ pair, receivers: [toLeft, toRight] });
      pair.left.open(toLeft);
      const sends = [pattern(10, 1), pattern(4 * KiB, 2), pattern(1, 3)].map((part) =>
        pair.left.send([part]),
      );
      await pause(50);
      pair.right.open(toRight);
      await all(sends);
      await toRight.expect(joined([pattern(10, 1), pattern(4 * KiB, 2), pattern(1, 3)]));
      await pair.right.send([pattern(9, 4)]);
      await toLeft.expect(pattern(9, 4));
    });

    onWire("makes send wait while the peer takes nothing off the wire", async () => {
      const { pair, left, toRight } = await open();
      const resume = pair.stall!();
      const part = pattern(256 * KiB, 6);
      const sends: Promise<void>[] = [];
      let waiting = 0;
      while (sends.length * part.length <= 2 * wireBytes && waiting < 10) {
        let resolved = false;
        const send = left.send([part]).then(() => {
          resolved = true;
        });
        sends.push(send);
        for (waiting = 0; !resolved && waiting < 10; waiting++) await pause(20);
      }
      const taken = (sends.length - 1) * part.length;
      expect(taken, "bytes that send took").toBeLessThanOrEqual(wireBytes);
      resume();
      await all(sends);
      await toRight.expect(joined(sends.map(() => part)));
    });

    it("delivers all that was sent before an orderly close, and then the end, once", async () => {
      const { left, right, toLeft, toRight } = await open();
      const parts = [pattern(10, 1), pattern(largeBytes, 2), pattern(1, 3)];
      const sends = parts.map((part) => left.send([part]));
      await within(left.close(), "the close");
      await all(sends);
      const ended = await within(toRight.ended, "the peer's end");
      expect(ended.error).toBeUndefined();
      await toRight.expect(joined(parts));
      await within(right.close(), "the close of the other side");
      expect((await within(toLeft.ended, "the own end")).error).toBeUndefined();
    });

    it("delivers what the peer sent last, though this side has sent nothing", async () => {
      const { left, right, toLeft, toRight } = await open();
      await right.send([pattern(largeBytes, 8)]);
      await within(right.close(), "the close");
      expect((await within(toLeft.ended, "the end")).error).toBeUndefined();
      await toLeft.expect(pattern(largeBytes, 8));
      await within(left.close(), "the close of the other side");
      await within(toRight.ended, "the end of the other side");
    });

    it("can be closed from both sides at once", async () => {
      const { left, right, toLeft, toRight } = await open();
      await all([left.send([pattern(100, 1)]), right.send([pattern(100, 2)])]);
      await all([toLeft.expect(pattern(100, 2)), toRight.expect(pattern(100, 1))]);
      await all([left.close(), right.close()]);
      const ends = await all([toLeft.ended, toRight.ended]);
      expect(ends.map(({ error }) => error)).toEqual([undefined, undefined]);
    });

    it("can be closed, either way, from within the receiver", async () => {
      for (const error of [undefined, new Error("enough")]) {
        const pair = await makePair();
        const toLeft = new Recorder();
        const closes: Promise<void>[] = [];
        const toRight = new Recorder(() => closes.push(pair.right.close(error)));
        opened.push({ pair, receivers: [toLeft, toRight] });
        pair.left.open(toLeft);
        pair.right.open(toRight);
        follow(pair.left, toLeft);
        // It may be told of the close before it is told that the bytes have left.
        const [sent] = await within(settled([pair.left.send([pattern(10, 1)])]), "the send");
        expect(sent).toBeDefined();
        await within(toLeft.ended, "the end");
        await all(closes);
      }
    });

    it("ends the peer, and everything that is under way, when it is dropped", async () => {
      const { pair, left, toRight } = await open();
      await left.send([pattern(100, 1)]);
      await toRight.expect(pattern(100, 1));
      const resume = pair.stall?.();
      const sends = settled(many(largeBytes).map((part) => left.send([part])));
      if (resume) await pause(50);
      await within(left.close(new Error("dropped")), "dropping", AT_ONCE_MS);
      const results = await within(sends, "the sends under way", AT_ONCE_MS);
      // Where nothing holds them up, they may have left already.
      if (resume) expect(results.at(-1)?.status).toBe("rejected");
      await expect(within(left.send([pattern(1, 1)]), "a later send")).rejects.toThrow();
      resume?.();
      await within(toRight.ended, "the peer's end");
    });

    it("settles what is under way when the peer drops it, and then rejects", async () => {
      const { pair, left, right, toLeft } = await open();
      const resume = pair.stall?.();
      const sends = settled(many(largeBytes).map((part) => left.send([part])));
      if (resume) await pause(50);
      await within(right.close(new Error("dropped")), "dropping", AT_ONCE_MS);
      await within(sends, "the sends under way");
      await within(toLeft.ended, "the end");
      await expect(within(left.send([pattern(1, 1)]), "a later send")).rejects.toThrow();
    });

    onWire("rejects what is under way when the peer dies", async () => {
      const { pair, left, toLeft } = await open();
      pair.stall?.();
      const sends = settled(many(largeBytes).map((part) => left.send([part])));
      await pause(50);
      pair.vanish!();
      const results = await within(sends, "the sends under way");
      expect(results.at(-1)?.status).toBe("rejected");
      await within(toLeft.ended, "the end");
    });

    onWire("ends when the peer dies, though nothing is under way", async () => {
      const { pair, left, toLeft } = await open();
      await left.send([pattern(10, 1)]);
      pair.vanish!();
      await within(toLeft.ended, "the end");
    });

    it("settles what is sent while the peer closes", async () => {
      const { left, right, toLeft, toRight } = await open();
      const sends = settled(many(64 * KiB).map((part) => left.send([part])));
      await within(right.close(), "the close");
      await within(sends, "the sends under way");
      await within(toLeft.ended, "the end");
      // What came, came in order.
      toRight.expectPrefix(joined(many(64 * KiB)));
    });

    it("rejects what is sent after it was closed, from then on", async () => {
      for (const error of [undefined, new Error("dropped")]) {
        const { left, right, toRight } = await open();
        await left.send([pattern(10, 1)]);
        follow(right, toRight);
        // One under way, that an orderly close waits for.
        const before = settled([left.send([pattern(largeBytes, 2)])]);
        const closed = left.close(error);
        await expect(within(left.send([pattern(1, 1)]), "a send while it closes")).rejects.toThrow();
        await within(closed, "the close");
        await within(before, "the send under way");
        await expect(within(left.send([pattern(1, 1)]), "a send when it is closed")).rejects.toThrow();
        await expect(within(left.send([]), "an empty send when it is closed")).rejects.toThrow();
      }
    });

    it("rejects, in the end, what is sent to a peer that has closed", async () => {
      const { left, right, toLeft } = await open();
      await within(right.close(), "the close");
      await within(toLeft.ended, "the end");
      const sending = async (): Promise<void> => {
        for (;;) {
          await left.send([pattern(KiB, 1)]);
          await pause(1);
        }
      };
      await expect(within(sending(), "a send that rejects")).rejects.not.toThrow(Impatience);
    });

    it("can be closed again, in any way", async () => {
      const error = new Error("dropped");
      for (const reasons of [
        [undefined, undefined],
        [undefined, error],
        [error, undefined],
        [error, error],
      ]) {
        const { left, right, toLeft, toRight } = await open();
        await left.send([pattern(10, 1)]);
        await toRight.expect(pattern(10, 1));
        follow(right, toRight);
        await all(reasons.map((reason) => left.close(reason)));
        await within(left.close(), "one more close");
        await within(right.close(), "the close of the other side");
        await all([toLeft.ended, toRight.ended]);
        await all([left.close(error), right.close(error)]);
      }
    });

    onWire("can be dropped while an orderly close waits for the peer", async () => {
      const { pair, left } = await open();
      pair.stall!();
      const sends = settled(many(largeBytes).map((part) => left.send([part])));
      const closed = left.close();
      await pause(50);
      await within(left.close(new Error("dropped")), "dropping", AT_ONCE_MS);
      await within(closed, "the orderly close");
      await within(sends, "the sends under way");
    });

    it("can be closed before the peer has opened it", async () => {
      for (const error of [undefined, new Error("dropped")]) {
        const pair = await makePair();
        const toLeft = new Recorder();
        const toRight = new Recorder();
        opened.push({ pair, receivers: [toLeft, toRight] });
        pair.left.open(toLeft);
        const sent = settled([pair.left.send([pattern(100, 1)])]);
        const closed = pair.left.close(error);
        await pause(20);
        pair.right.open(toRight);
        await within(closed, "the close");
        await within(sent, "the send");
        await within(toRight.ended, "the peer's end");
        if (!error) await toRight.expect(pattern(100, 1));
      }
    });
  });
}

interface OpenPair {
  readonly pair: ChannelPair;
  readonly left: Channel;
  readonly right: Channel;
  readonly toLeft: Recorder;
  readonly toRight: Recorder;
}
