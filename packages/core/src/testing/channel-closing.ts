import { expect, it } from "vitest";
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
import { AT_ONCE_MS, type ChannelTrial } from "./channel-trial.js";

/** How a channel ends, in the orderly way and otherwise. */
export function closingTests(trial: ChannelTrial): void {
  it("delivers all that was sent before an orderly close, and then the end, once", async () => {
    const { left, right, toLeft, toRight } = await trial.open();
    const parts = [pattern(10, 1), pattern(trial.largeBytes, 2), pattern(1, 3)];
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
    const { left, right, toLeft, toRight } = await trial.open();
    await right.send([pattern(trial.largeBytes, 8)]);
    await within(right.close(), "the close");
    expect((await within(toLeft.ended, "the end")).error).toBeUndefined();
    await toLeft.expect(pattern(trial.largeBytes, 8));
    await within(left.close(), "the close of the other side");
    await within(toRight.ended, "the end of the other side");
  });

  it("can be closed from both sides at once", async () => {
    const { left, right, toLeft, toRight } = await trial.open();
    await all([left.send([pattern(100, 1)]), right.send([pattern(100, 2)])]);
    await all([toLeft.expect(pattern(100, 2)), toRight.expect(pattern(100, 1))]);
    await all([left.close(), right.close()]);
    const ends = await all([toLeft.ended, toRight.ended]);
    expect(ends.map(({ error }) => error)).toEqual([undefined, undefined]);
  });

  it("can be closed, either way, from within the receiver", async () => {
    for (const error of [undefined, new Error("enough")]) {
      const closes: Promise<void>[] = [];
      const closing = new Recorder(() => closes.push(pair.right.close(error)));
      const { pair, toLeft, toRight } = await trial.make(closing);
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
    const { pair, left, toRight } = await trial.open();
    await left.send([pattern(100, 1)]);
    await toRight.expect(pattern(100, 1));
    const resume = pair.stall?.();
    const sends = settled(many(trial.largeBytes).map((part) => left.send([part])));
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
    const { pair, left, right, toLeft } = await trial.open();
    const resume = pair.stall?.();
    const sends = settled(many(trial.largeBytes).map((part) => left.send([part])));
    if (resume) await pause(50);
    await within(right.close(new Error("dropped")), "dropping", AT_ONCE_MS);
    await within(sends, "the sends under way");
    await within(toLeft.ended, "the end");
    await expect(within(left.send([pattern(1, 1)]), "a later send")).rejects.toThrow();
  });

  trial.onWire("rejects what is under way when the peer dies", async () => {
    const { pair, left, toLeft } = await trial.open();
    pair.stall?.();
    const sends = settled(many(trial.largeBytes).map((part) => left.send([part])));
    await pause(50);
    pair.vanish!();
    const results = await within(sends, "the sends under way");
    expect(results.at(-1)?.status).toBe("rejected");
    await within(toLeft.ended, "the end");
  });

  trial.onWire("ends when the peer dies, though nothing is under way", async () => {
    const { pair, left, toLeft } = await trial.open();
    await left.send([pattern(10, 1)]);
    pair.vanish!();
    await within(toLeft.ended, "the end");
  });

  it("settles what is sent while the peer closes", async () => {
    const { left, right, toLeft, toRight } = await trial.open();
    const sends = settled(many(64 * KiB).map((part) => left.send([part])));
    await within(right.close(), "the close");
    await within(sends, "the sends under way");
    await within(toLeft.ended, "the end");
    // What came, came in order.
    toRight.expectPrefix(joined(many(64 * KiB)));
  });

  it("rejects what is sent after it was closed, from then on", async () => {
    for (const error of [undefined, new Error("dropped")]) {
      const { left, right, toRight } = await trial.open();
      await left.send([pattern(10, 1)]);
      follow(right, toRight);
      // One under way, that an orderly close waits for.
      const before = settled([left.send([pattern(trial.largeBytes, 2)])]);
      const closed = left.close(error);
      await expect(within(left.send([pattern(1, 1)]), "a send while it closes")).rejects.toThrow();
      await within(closed, "the close");
      await within(before, "the send under way");
      await expect(within(left.send([pattern(1, 1)]), "a send when it is closed")).rejects.toThrow();
      await expect(within(left.send([]), "an empty send when it is closed")).rejects.toThrow();
    }
  });

  it("rejects, in the end, what is sent to a peer that has closed", async () => {
    const { left, right, toLeft } = await trial.open();
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
      const { left, right, toLeft, toRight } = await trial.open();
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

  trial.onWire("can be dropped while an orderly close waits for the peer", async () => {
    const { pair, left } = await trial.open();
    pair.stall!();
    const sends = settled(many(trial.largeBytes).map((part) => left.send([part])));
    const closed = left.close();
    await pause(50);
    await within(left.close(new Error("dropped")), "dropping", AT_ONCE_MS);
    await within(closed, "the orderly close");
    await within(sends, "the sends under way");
  });

  it("can be closed before the peer has opened it", async () => {
    for (const error of [undefined, new Error("dropped")]) {
      const { pair, toLeft, toRight } = await trial.make();
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
}
