import { readdir, rm } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import {
  type ReceivedModel,
  type ReceiveOptions,
  receiveModel,
  safetensorsSink,
  shardedSafetensorsSink,
  streamModel,
  type TransferSummary,
} from "../src/index.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import {
  at,
  BYTES,
  expectSame,
  folder,
  iterated,
  listening,
  type Model,
  model,
  proxied,
  quick,
  sizes,
  stored,
  WINDOW,
} from "./retry-fixture.js";

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
