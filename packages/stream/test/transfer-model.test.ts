import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Chunk, ModelInfo } from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  artifactSource,
  MemoryBudget,
  type ModelSink,
  type ModelSource,
  type ProgressEvent,
  receiveModel,
  streamModel,
  TensorwireError,
  transferModel,
} from "../src/index.js";
import { failure, folder, listing } from "./sink-fixture.js";

const KiB = 1024;
const CHUNK = 64 * KiB;
const WINDOW = 8 * CHUNK;
const small = { chunkBytes: CHUNK, windowBytes: WINDOW } as const;

const weights = Float32Array.from({ length: 40 * (CHUNK / 4) }, (_, i) => Math.sin(i * 12.9898));
const model = {
  weights: { dtype: "F32", shape: [weights.length], data: weights },
  ids: { dtype: "I32", shape: [5], data: Int32Array.of(1, 2, 3, 4, 5) },
} as const;

// Every transfer of this file gives all its buffers back.
const loans: number[] = [];
const onEnd = (message: unknown): void => void loans.push((message as { loans: number }).loans);
beforeEach(() => {
  loans.length = 0;
  subscribe("tensorwire:transfer:end", onEnd);
});
afterEach(() => {
  unsubscribe("tensorwire:transfer:end", onEnd);
  expect(loans.filter((count) => count !== 0)).toEqual([]);
});

/** A source of one tensor whose chunks are read when the test says so. */
function sourceOf(
  chunks: number,
  read: (chunk: Chunk) => void | Promise<void>,
  extra: Partial<ModelSource> = {},
) {
  const info: ModelInfo = {
    kind: "model",
    tensors: [{ name: "w", dtype: "U8", shape: [chunks * CHUNK] }],
    metadata: new Map(),
  };
  const source: ModelSource = {
    name: "the source",
    open: async () => info,
    async read(chunk, pool) {
      await read(chunk);
      const loan = pool.lend(chunk.bytes);
      loan.bytes.fill(chunk.ordinal);
      return loan;
    },
    close: async () => {},
    ...extra,
  };
  return source;
}

const sinkOf = (write: ModelSink["write"], extra: Partial<ModelSink> = {}): ModelSink => ({
  name: "the sink",
  parallel: false,
  async open() {},
  write,
  async finish() {},
  async abort() {},
  ...extra,
});

describe("a transfer within the process", () => {
  test("packs, packs anew with another codec, and unpacks, with one summary and one progress", async () => {
    const at = folder();
    const events: ProgressEvent[] = [];
    const onProgress = (event: ProgressEvent): void => void events.push(event);
    const packed = await transferModel(model, join(at, "m.twire"), {
      ...small,
      codec: "blockwise8",
      onProgress,
    });
    expect(packed).toMatchObject({
      ...{ tensors: 2, chunks: 41, sourceBytes: weights.byteLength + 20, confirmed: true, retries: 0 },
      codecs: { blockwise8: { tensors: 1 }, none: { tensors: 1 } },
    });
    expect(events.filter(({ phase }) => phase === "done")).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ phase: "done", durableBytes: packed.sourceBytes, tensors: 2 });
    const again = await transferModel(join(at, "m.twire"), join(at, "n.twire"), {
      ...small,
      codec: "linear4",
    });
    expect(again.codecs).toMatchObject({ linear4: { tensors: 1 } });
    const copied = await transferModel(join(at, "m.twire"), join(at, "copy.twire"), small);
    expect(copied.digest).toBe(packed.digest);
    expect(readFileSync(join(at, "copy.twire")).equals(readFileSync(join(at, "m.twire")))).toBe(true);
    const exact = await transferModel(model, join(at, "exact.twire"), small);
    const unpacked = await transferModel(join(at, "exact.twire"), join(at, "m.safetensors"), small);
    expect(unpacked.digest).toBe(exact.digest);
    const data = readFileSync(join(at, "m.safetensors"));
    expect(data.subarray(-weights.byteLength - 20).includes(Buffer.from(weights.buffer))).toBe(true);
    expect(listing(at)).toEqual(["copy.twire", "exact.twire", "m.safetensors", "m.twire", "n.twire"]);
  });

  test("is what sending to the path of an artifact is", async () => {
    const at = folder();
    const options = { ...small, codec: "normfloat4" } as const;
    const [sent, moved] = [
      await streamModel(model, join(at, "sent.twire"), options),
      await transferModel(model, join(at, "moved.twire"), options),
    ];
    expect([sent.digest, sent.confirmed]).toEqual([moved.digest, true]);
    expect(readFileSync(join(at, "sent.twire")).equals(readFileSync(join(at, "moved.twire")))).toBe(true);
    for (const peers of [{ retry: true }, { dial: { token: "secret-token" } }]) {
      const error = await failure(streamModel(model, join(at, "x.twire"), { ...small, ...peers }));
      expect(error.code).toBe("INVALID_ARGUMENT");
    }
    expect(listing(at)).toEqual(["moved.twire", "sent.twire"]);
  });

  test("counts what a codec declined, which only the end that encodes knows", async () => {
    const declines = {
      w: { dtype: "F32", shape: [8192], data: new Float32Array(8192).fill(1e-30) },
    } as const;
    const [a, b] = [folder(), folder()];
    const alone = await transferModel(declines, join(a, "m.twire"), { codec: "adaquant", ...small });
    const source = artifactSource(join(a, "m.twire"));
    expect((await transferModel(source, join(b, "m.twire"), small)).declinedChunks).toBe(0);
    expect(alone.declinedChunks).toBe(alone.fallbackChunks);
  });
});

describe("it fails with what failed first", () => {
  const broken = new TensorwireError("SOURCE_MISMATCH", "the source broke");

  test.each([0, 1, 20])("the source, at chunk %i: nothing is left", async (at) => {
    const source = sourceOf(30, (chunk) => {
      if (chunk.ordinal === at) throw broken;
    });
    const to = folder();
    const error = await failure(transferModel(source, join(to, "m.twire"), small));
    expect([error.code, error.chunk]).toEqual(["SOURCE_MISMATCH", at]);
    expect(error.message).toContain("the source broke");
    expect(listing(to)).toEqual([]);
  });

  test("the source, before there is anything between the two", async () => {
    const to = folder();
    const open = async (): Promise<never> => Promise.reject(broken);
    expect(
      await failure(
        transferModel(
          sourceOf(1, () => {}, { open }),
          join(to, "m.twire"),
          small,
        ),
      ),
    ).toBe(broken);
    expect((await failure(transferModel(join(to, "no.safetensors"), join(to, "m.twire")))).code).toBe(
      "SOURCE_READ",
    );
    expect(listing(to)).toEqual([]);
  });

  test.each([0, 20])("the sink, at chunk %i", async (at) => {
    let closed = 0;
    const close = async (): Promise<void> => void closed++;
    const sink = sinkOf((chunk) =>
      chunk.ordinal === at ? Promise.reject(new Error("the disk is gone")) : undefined,
    );
    const error = await failure(
      transferModel(
        sourceOf(30, () => {}, { close }),
        sink,
        small,
      ),
    );
    expect(error.message).toContain("the disk is gone");
    expect([error.code, closed]).toEqual([expect.not.stringMatching("PEER_FAILED"), 1]);
  });

  test("the sink, before any data", async () => {
    const to = folder();
    writeFileSync(join(to, "m.twire"), "mine");
    let reads = 0;
    const source = sourceOf(3, () => void reads++);
    expect((await failure(transferModel(source, join(to, "m.twire"), small))).code).toBe("TARGET_EXISTS");
    expect([reads, listing(to)]).toEqual([0, ["m.twire"]]);
  });

  test("options of either end", async () => {
    const to = join(folder(), "m.safetensors");
    const all = [
      { codec: "zip9" },
      { seed: "12" },
      { outputDtype: "I8" as "F32" },
      { expectedDigest: "x" },
      { windowBytes: 1 },
      { chunkBytes: WINDOW, windowBytes: WINDOW },
    ];
    for (const options of all) {
      const error = await failure(transferModel(model, to, options));
      expect(["INVALID_ARGUMENT", "CODEC_UNSUPPORTED"], JSON.stringify(options)).toContain(error.code);
    }
  });

  test("the demand for SHA-256 of an artifact that has none", async () => {
    const at = folder();
    await transferModel(model, join(at, "m.twire"), small);
    const call = transferModel(join(at, "m.twire"), join(at, "n.twire"), { ...small, integrity: "sha256" });
    expect((await failure(call)).code).toBe("INTEGRITY_REQUIRED");
    expect(listing(at)).toEqual(["m.twire"]);
    const codec = { ...small, integrity: "sha256", codec: "float16" } as const;
    const anew = await transferModel(join(at, "m.twire"), join(at, "n.twire"), codec);
    expect(anew.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each(["source", "sink", "neither"])("the signal, while the %s is at work", async (end) => {
    const controller = new AbortController();
    const never = (): Promise<void> => {
      setImmediate(() => controller.abort(new Error("enough")));
      return new Promise(() => {});
    };
    const waiting: ((error: unknown) => void)[] = [];
    const sink = sinkOf(
      () => {
        if (end !== "sink") return undefined;
        void never();
        return new Promise((_, reject) => waiting.push(reject));
      },
      {
        async abort(error) {
          for (const reject of waiting) reject(error);
        },
      },
    );
    if (end === "neither") controller.abort(new Error("enough"));
    const source = sourceOf(5, end === "source" ? never : () => {});
    const error = await failure(transferModel(source, sink, { ...small, signal: controller.signal }));
    expect([error.code, error.message]).toEqual(["ABORTED", "the transfer was aborted: enough"]);
  });
});

describe("after an interruption", () => {
  test("the same call goes on, into the same file", async () => {
    const at = folder();
    const path = join(at, "m.twire");
    await transferModel(
      sourceOf(60, () => {}, { version: "one" }),
      join(at, "undisturbed.twire"),
      small,
    );
    for (const until of [15, 40]) {
      const controller = new AbortController();
      const source = sourceOf(
        60,
        ({ ordinal }) => {
          if (ordinal === until) controller.abort();
        },
        { version: "one" },
      );
      await failure(transferModel(source, path, { ...small, signal: controller.signal }));
      expect(listing(at)).toEqual(["m.twire.part", "m.twire.part.journal", "undisturbed.twire"]);
    }
    const read: number[] = [];
    const source = sourceOf(60, ({ ordinal }) => void read.push(ordinal), { version: "one" });
    const summary = await transferModel(source, path, small);
    expect(summary.resumedBytes).toBeGreaterThan(0);
    expect(read).toEqual(Array.from({ length: read.length }, (_, i) => 60 - read.length + i));
    expect(summary.resumedBytes).toBe((60 - read.length) * CHUNK);
    expect(readFileSync(path).equals(readFileSync(join(at, "undisturbed.twire")))).toBe(true);
    expect(listing(at)).toEqual(["m.twire", "undisturbed.twire"]);
  });

  test("resume: false leaves nothing", async () => {
    const at = folder();
    const controller = new AbortController();
    const source = sourceOf(60, ({ ordinal }) => {
      if (ordinal === 40) controller.abort();
    });
    await failure(
      transferModel(source, join(at, "m.twire"), { ...small, resume: false, signal: controller.signal }),
    );
    expect(listing(at)).toEqual([]);
  });
});

describe("it takes half a window", () => {
  test.each([
    ["none", 40],
    ["blockwise8", 40],
  ])("of source bytes, with %s, when the sink takes its time", async (codec, chunks) => {
    let [read, written, most] = [0, 0, 0];
    const source = sourceOf(chunks, ({ bytes }) => {
      read += bytes;
      most = Math.max(most, read - written);
    });
    const sink = sinkOf(async ({ bytes }) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      written += bytes;
    });
    await transferModel(source, sink, { ...small, codec });
    // Credit is taken before a chunk is read: what the receiver has granted bounds both ends.
    expect(most).toBe(WINDOW / 2);
  });

  test("and of a budget that both ends share, both minimums or nothing: many at once do not stand still", async () => {
    // Room for two transfers at their minimums, and for the receiving end of all of them.
    const budget = new MemoryBudget(2 * 1024 * KiB * 3);
    let [now, most] = [0, 0];
    const one = async (): Promise<void> => {
      const sink = sinkOf(async () => {
        most = Math.max(most, budget.transfers);
        now++;
      });
      await transferModel(
        sourceOf(12, () => {}),
        sink,
        { ...small, budget },
      );
    };
    await Promise.all(Array.from({ length: 12 }, one));
    expect(now).toBe(12 * 12);
    expect(most).toBeGreaterThanOrEqual(2);
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("of a budget that is too small for both it says so", async () => {
    const budget = new MemoryBudget(100 * KiB);
    const error = await failure(
      transferModel(
        model,
        sinkOf(() => undefined),
        { ...small, budget },
      ),
    );
    expect(error.code).toBe("LIMIT_EXCEEDED");
    expect([budget.reservedBytes, budget.transfers, budget.waiting]).toEqual([0, 0, 0]);
  });

  test("one that is cancelled while it waits for memory takes none", async () => {
    const budget = new MemoryBudget(3 * 1024 * KiB);
    const controller = new AbortController();
    let go!: () => void;
    const held = new Promise<void>((resolve) => (go = resolve));
    const first = transferModel(
      sourceOf(12, () => {}),
      sinkOf(() => held),
      { ...small, budget },
    );
    while (budget.transfers < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    const second = transferModel(
      sourceOf(12, () => {}),
      sinkOf(() => undefined),
      {
        ...{ ...small, budget, signal: controller.signal },
      },
    );
    while (budget.waiting < 1) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort();
    expect((await failure(second)).code).toBe("ABORTED");
    expect([budget.transfers, budget.waiting]).toEqual([2, 0]);
    go();
    await first;
    expect([budget.reservedBytes, budget.transfers]).toEqual([0, 0]);
  });
});

test("an artifact of a function's choice; iterating over one that is received as before", async () => {
  const at = folder();
  await transferModel(model, ({ tensors }) => join(at, `${tensors.length}.twire`), small);
  const names: string[] = [];
  for await (const { name } of receiveModel(join(at, "2.twire"), small)) names.push(name);
  expect(names).toEqual(["weights", "ids"]);
});
