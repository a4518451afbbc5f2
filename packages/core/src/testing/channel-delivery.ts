import { expect, it } from "vitest";
import { all, joined, KiB, pattern, pause, Recorder, within } from "./channel-recorder.js";
import type { ChannelTrial } from "./channel-trial.js";
import { firstDifference } from "./equality.js";
import { pseudoRandom } from "./samples.js";

/** What a channel brings, and how its sends wait. */
export function deliveryTests(trial: ChannelTrial): void {
  it("says that it goes both ways", async () => {
    const { left, right } = await trial.open();
    for (const channel of [left, right]) {
      expect(channel.direction).toBe("both");
      expect(channel.kind).toMatch(/^[a-z]+$/);
    }
  });

  it("carries parts of any size, both ways at once", async () => {
    const { left, right, toLeft, toRight } = await trial.open();
    const sizes = [
      0,
      1,
      255,
      64 * KiB - 1,
      64 * KiB,
      64 * KiB + 1,
      trial.largeBytes,
      3,
      trial.largeBytes >> 1,
    ];
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
    const { left, right, toLeft, toRight } = await trial.open();
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
    const { left, toRight } = await trial.open();
    await within(left.send([]), "sending no parts");
    await within(left.send([new Uint8Array(0), new Uint8Array(0)]), "sending empty parts");
    await left.send([pattern(3, 1)]);
    await toRight.expect(pattern(3, 1));
  });

  it("has read the parts when send resolves: they may be written over", async () => {
    const { pair, left, toRight } = await trial.open();
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
    const { left, toRight } = await trial.open();
    const parts = [pattern(5, 1), pattern(100 * KiB, 2), pattern(400 * KiB, 3)];
    const copies = parts.map((part) => part.slice());
    await within(left.send(parts), "sending");
    await toRight.expect(joined(copies));
    expect(firstDifference(joined(parts), joined(copies))).toBe(-1);
  });

  it("takes parts that are views into larger buffers", async () => {
    const { left, toRight } = await trial.open();
    const buffer = pattern(300 * KiB, 4);
    const parts = [buffer.subarray(7, 20), buffer.subarray(1000, 280 * KiB), buffer.subarray(3, 3)];
    await within(left.send(parts), "sending");
    await toRight.expect(joined(parts));
  });

  it("may be answered from within the receiver", async () => {
    const echoes: Promise<void>[] = [];
    const echo = new Recorder((portion) => {
      echoes.push(pair.right.send([portion.slice()]));
    });
    const { pair, toLeft } = await trial.make(echo);
    pair.left.open(toLeft);
    pair.right.open(echo);
    const parts = [1, 5000, 1, 20_000].map((size, i) => pattern(size, i));
    for (const part of parts) await pair.left.send([part]);
    await toLeft.expect(joined(parts));
    await all(echoes);
  });

  it("keeps what came before it was opened", async () => {
    const { pair, toLeft, toRight } = await trial.make();
    pair.left.open(toLeft);
    const sends = [pattern(10, 1), pattern(4 * KiB, 2), pattern(1, 3)].map((part) => pair.left.send([part]));
    await pause(50);
    pair.right.open(toRight);
    await all(sends);
    await toRight.expect(joined([pattern(10, 1), pattern(4 * KiB, 2), pattern(1, 3)]));
    await pair.right.send([pattern(9, 4)]);
    await toLeft.expect(pattern(9, 4));
  });

  trial.onWire("makes send wait while the peer takes nothing off the wire", async () => {
    const { pair, left, toRight } = await trial.open();
    const resume = pair.stall!();
    const part = pattern(256 * KiB, 6);
    const sends: Promise<void>[] = [];
    let waiting = 0;
    while (sends.length * part.length <= 2 * trial.wireBytes && waiting < 10) {
      let resolved = false;
      const send = left.send([part]).then(() => {
        resolved = true;
      });
      sends.push(send);
      for (waiting = 0; !resolved && waiting < 10; waiting++) await pause(20);
    }
    const taken = (sends.length - 1) * part.length;
    expect(taken, "bytes that send took").toBeLessThanOrEqual(trial.wireBytes);
    resume();
    await all(sends);
    await toRight.expect(joined(sends.map(() => part)));
  });
}
