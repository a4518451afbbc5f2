import { expect, test } from "vitest";
import { listen, memoryChannelPair, receiveModel, streamModel, type TensorMap } from "../src/index.js";
import { closers, collect, filled, mixed } from "./transfer-fixture.js";

test("one open channel carries transfers one after another, and both ways at once", async () => {
  const [a, b] = memoryChannelPair();
  const small: TensorMap = { w: filled("F32", [5000]) };
  for (let round = 0; round < 3; round++) {
    const down = receiveModel(b);
    const up = receiveModel(a);
    const [one, other] = await Promise.all([
      collect(down),
      collect(up),
      streamModel(small, a, { codec: "blockwise8" }),
      streamModel(small, b, { codec: "float16" }),
    ]);
    expect([one.size, other.size]).toEqual([1, 1]);
    await Promise.all([up.done, down.done]);
  }
});

test("a consumer that stops early ends the transfer on both sides", async () => {
  const [a, b] = memoryChannelPair();
  const sending = streamModel(mixed, a, { chunkBytes: 32768, windowBytes: 65536 });
  const received = receiveModel(b, { windowBytes: 65536 });
  for await (const _ of received) break;
  await expect(received.done).rejects.toMatchObject({ code: "SINK_CLOSED" });
  await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED", peerCode: "SINK_CLOSED" });
});

test("two ends with the same role say so", async () => {
  const listener = await listen();
  closers.push(() => listener.close());
  const waiting = streamModel(mixed, listener, { signal: AbortSignal.timeout(2000) });
  await expect(streamModel(mixed, listener.url)).rejects.toMatchObject({
    code: expect.stringMatching(/ROLE_CONFLICT|PEER_FAILED/),
  });
  await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
});

test("a signal that aborts, before or in the middle, ends both sides with ABORTED", async () => {
  for (const when of [0, 1, 3]) {
    const [a, b] = memoryChannelPair();
    const controller = new AbortController();
    if (when === 0) controller.abort(new Error("not today"));
    const sending = streamModel(mixed, a, {
      signal: controller.signal,
      chunkBytes: 32768,
      windowBytes: 65536,
    });
    const received = receiveModel(b, { windowBytes: 65536 });
    let tensors = 0;
    const iterating = (async () => {
      for await (const _ of received) if (++tensors === when) controller.abort(new Error("not today"));
    })();
    await expect(sending).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("not today"),
    });
    if (when === 0) await b.close(new Error("nobody came"));
    await expect(iterating).rejects.toMatchObject({ code: when === 0 ? "CHANNEL_CLOSED" : "ABORTED" });
  }
});
