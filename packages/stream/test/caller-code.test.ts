import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Codec, CodecRegistry, float16 } from "@tensorwire/core";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type ModelSink,
  memoryChannelPair,
  type ProgressEvent,
  receiveModel,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
// The last to look: what is registered first runs last.
checksLoans();
beforeEach(() => {
  process.on("unhandledRejection", onUnhandled);
});
afterEach(async () => {
  await new Promise((resolve) => setTimeout(resolve, 10));
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled.splice(0)).toEqual([]);
});

const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };
const small = { chunkBytes: 32768, windowBytes: 65536 };

const sink = (over: Partial<ModelSink>): ModelSink => ({
  name: "the caller's",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
  ...over,
});

const fault = (): never => {
  throw new Error("the caller's fault");
};
const faults: Record<string, Partial<ModelSink>> = {
  "open throws": { open: fault },
  "place throws": { place: fault },
  "place rejects": { place: async () => fault() },
  "write throws": { write: fault },
  "write rejects": { write: async () => fault() },
  "finish throws": { finish: fault },
};
for (const [name, over] of Object.entries(faults)) {
  test(`a sink whose ${name} fails the transfer at both ends`, async () => {
    const [a, b] = memoryChannelPair();
    const sending = streamModel(model, a, small);
    sending.catch(() => {});
    const { done } = receiveModel(b, { ...small, to: sink(over) });
    await expect(done).rejects.toMatchObject({ message: expect.stringContaining("the caller's fault") });
    await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
  });
}

test("a sink that gives too little memory fails the transfer", async () => {
  const [a, b] = memoryChannelPair();
  const sending = streamModel(model, a, small);
  sending.catch(() => {});
  const { done } = receiveModel(b, { ...small, to: sink({ place: async () => new Uint8Array(1) }) });
  await expect(done).rejects.toThrow();
  await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
});

test("a sink whose abort fails too hides neither the first cause nor the process", async () => {
  for (const abort of [fault, async () => fault()]) {
    const [a, b] = memoryChannelPair();
    const sending = streamModel(model, a, small);
    sending.catch(() => {});
    const write = (): never => {
      throw new Error("first");
    };
    const { done } = receiveModel(b, { ...small, to: sink({ write, abort }) });
    await expect(done).rejects.toMatchObject({ message: expect.stringContaining("first") });
    await expect(sending).rejects.toMatchObject({ code: "PEER_FAILED" });
  }
});

test("a function that does not say where the model goes keeps no abort waiting, and what it says later is told", async () => {
  for (const late of ["not at all", "later"]) {
    const [a, b] = memoryChannelPair();
    const abort = new AbortController();
    const sending = streamModel(model, a, small);
    let answer!: (to: ModelSink) => void;
    const said = new Promise<ModelSink>((resolve) => {
      answer = resolve;
    });
    const asked = new Promise<ReturnType<typeof receiveModel>>((resolve) => {
      const to = (): Promise<ModelSink> => {
        resolve(received);
        return said;
      };
      const received = receiveModel(b, { signal: abort.signal, to });
    });
    const { done } = await asked;
    abort.abort();
    await expect(done).rejects.toMatchObject({ code: "ABORTED" });
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    if (late === "later") {
      const told = new Promise<unknown>((resolve) => {
        answer(sink({ open: fault, abort: async (error) => resolve(error) }));
      });
      expect(await told).toMatchObject({ code: "ABORTED" });
    }
    await Promise.all([a.close(), b.close()]);
  }
});

test("a consumer that returns while its next() waits gets an answer to both", async () => {
  const [a, b] = memoryChannelPair();
  const received = receiveModel(b, small);
  const iterator = received[Symbol.asyncIterator]();
  const next = iterator.next();
  await iterator.return!();
  await expect(next).resolves.toEqual({ done: true, value: undefined });
  await expect(received.done).rejects.toMatchObject({ code: "SINK_CLOSED" });
  await a.close(new Error("over"));
});

test("progress is done only when the file is there", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
  try {
    const events: string[] = [];
    const path = join(folder, "model.twire");
    const { readdirSync } = await import("node:fs");
    await streamModel(model, path, {
      ...small,
      onProgress: ({ phase }: ProgressEvent) => {
        if (phase === "done") events.push(...readdirSync(folder));
      },
    });
    expect(events).toEqual(["model.twire"]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a codec of the caller's own needs a registry, and no backend", async () => {
  const registry = new CodecRegistry();
  const half: Codec = {
    id: 60_000,
    name: "half",
    supports: (dtype) => float16.supports(dtype),
    resolve: () => ({ name: "half" }),
    payloadBytes: (_spec, dtype, elements) => float16.payloadBytes({ name: "float16" }, dtype, elements),
    scaleBytes: () => 0,
    encode: (_spec, dtype, elements, source, target) =>
      float16.encode({ name: "float16" }, dtype, elements, source, target),
    decode: (_spec, ...rest) => float16.decode({ name: "float16" }, ...rest),
  };
  registry.register(half);
  const [a, b] = memoryChannelPair();
  const sending = streamModel(model, a, { ...small, registry, codec: "half" });
  const { done } = receiveModel(b, { ...small, registry, to: sink({}) });
  await expect(sending).resolves.toMatchObject({ confirmed: true, codecs: { half: { tensors: 1 } } });
  await done;
});
