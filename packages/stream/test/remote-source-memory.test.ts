import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Chunk, ModelInfo } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import {
  duplexChannel,
  MemoryBudget,
  type ModelSink,
  type ModelSource,
  receiveModel,
  streamModel,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { CHUNK, KiB, perConnection, send, small, sourceOf, WINDOW, whole } from "./remote-source-fixture.js";
import { failure, folder } from "./sink-fixture.js";

checksLoans();

describe("memory", () => {
  /** Source bytes that were read at the server, and not yet written here, at most. */
  async function atOnce(concurrency: number): Promise<number> {
    const [chunks, read] = [60, new Set<number>()];
    let [written, most] = [0, 0];
    const info: ModelInfo = {
      kind: "model",
      tensors: [{ name: "w", dtype: "U8", shape: [chunks * CHUNK] }],
      metadata: new Map(),
    };
    const source = (): ModelSource => ({
      name: "the source",
      version: "one",
      open: async () => info,
      async read(chunk: Chunk, pool) {
        read.add(chunk.ordinal);
        most = Math.max(most, read.size * CHUNK - written);
        return pool.lend(chunk.bytes);
      },
      close: async () => {},
    });
    const { url } = await perConnection((socket) =>
      streamModel(source(), duplexChannel(socket), { chunkBytes: CHUNK, windowBytes: 2 * CHUNK }),
    );
    const sink: ModelSink = {
      name: "the sink",
      parallel: false,
      async open() {},
      async write({ bytes }) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        written += bytes;
      },
      async finish() {},
      async abort() {},
    };
    await receiveModel(url, { to: sink, concurrency, ...small }).done;
    return most;
  }

  test("one window is on its way, over however many, and as much as the end that decodes takes beside it", async () => {
    for (const concurrency of [2, 4, 16]) {
      const most = await atOnce(concurrency);
      expect(most, `${concurrency} connections`).toBeLessThanOrEqual(1.5 * WINDOW);
      expect(most).toBeGreaterThan(WINDOW / 2);
    }
  });

  test("a server with memory for one of them at a time brings them all: none keeps it while it waits for credit", async () => {
    const budget = new MemoryBudget(8 * 1024 * KiB);
    const half = await perConnection((socket) =>
      send(socket, { budget: new MemoryBudget(budget.bytes / 2) }),
    );
    await expect(
      receiveModel(half.url, { to: join(folder(), "m.twire"), ...small }).done,
      "one takes more than half of it",
    ).rejects.toMatchObject({ peerCode: "LIMIT_EXCEEDED" });
    const { url } = await perConnection((socket) => send(socket, { budget }));
    const to = join(folder(), "m.twire");
    await Promise.all(
      [to, `${to}.twire`].map((path) => receiveModel(url, { to: path, concurrency: 4, ...small }).done),
    );
    expect(readFileSync(to).equals(await whole())).toBe(true);
    await expect.poll(() => [budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("many pulls share one small budget of the caller's, and do not stand still", async () => {
    const { url } = await perConnection((socket) => send(socket));
    const budget = new MemoryBudget(8 * 1024 * KiB);
    const pull = (): Promise<unknown> =>
      receiveModel(url, { to: join(folder(), "m.twire"), concurrency: 3, ...small, budget }).done;
    await Promise.all(Array.from({ length: 6 }, pull));
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });
});

describe("a small budget of the caller's", () => {
  test.each([undefined, "one"])(
    "bounds what is on its way, of version %s",
    async (version: string | undefined) => {
      let [read, written, most] = [0, 0, 0];
      const source = (): ModelSource =>
        sourceOf(400, {
          version,
          async read(chunk: Chunk, pool) {
            read += chunk.bytes;
            return pool.lend(chunk.bytes);
          },
        });
      const { url } = await perConnection((socket) =>
        streamModel(source(), duplexChannel(socket), { chunkBytes: CHUNK, windowBytes: 2 * CHUNK }),
      );
      const sink: ModelSink = {
        name: "the sink",
        parallel: false,
        async open() {},
        async write({ bytes }) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          written += bytes;
          most = Math.max(most, read - written);
        },
        async finish() {},
        async abort() {},
      };
      const budget = new MemoryBudget(8 * 1024 * KiB);
      await receiveModel(url, { to: sink, concurrency: 4, budget }).done;
      expect(most).toBeLessThan(budget.bytes);
      expect([budget.reservedBytes, budget.transfers]).toEqual([0, 0]);
    },
  );

  test("that is smaller than a chunk takes refuses the call", async () => {
    const { url } = await perConnection((socket) => send(socket));
    const budget = new MemoryBudget(100 * KiB);
    const to = join(folder(), "m.twire");
    const call = receiveModel(url, { to, concurrency: 4, ...small, budget });
    expect((await failure(call.done)).code).toBe("LIMIT_EXCEEDED");
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });
});
