import { readdir } from "node:fs/promises";
import { TensorwireError } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { fromTensors, memoryChannelPair, type RetryEvent, receiveModel, streamModel } from "../src/index.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import {
  at,
  BYTES,
  CHUNK,
  folder,
  listening,
  model,
  proxied,
  quick,
  sizes,
  WINDOW,
} from "./retry-fixture.js";

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
