import {
  type Channel,
  type ChannelReceiver,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  PREAMBLE,
  TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { expect, test } from "vitest";
import { fromTensors, memoryChannelPair, receiveModel, streamModel, type TensorMap } from "../src/index.js";

const small = { chunkBytes: 32768, windowBytes: 65536 };
const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000) } };

const hello = [
  PREAMBLE,
  encodeFrame(
    FrameType.HELLO,
    0,
    0,
    encodeJson({
      versions: [1],
      software: "a stalled peer",
      role: "any",
      codecs: ["none"],
      limits: { maxChunkBytes: 2 ** 20, maxManifestBytes: 2 ** 20 },
    }),
  ),
];

/** A channel whose peer stops reading: what is sent from then on leaves only when the channel is dropped. */
class StalledChannel implements Channel {
  readonly kind = "stalled";
  readonly direction = "both";
  readonly sends: number[] = [];
  stalled = false;
  receiver!: ChannelReceiver;
  closed: Error | "orderly" | undefined;
  #stuck: ((error: Error) => void)[] = [];

  open(receiver: ChannelReceiver): void {
    this.receiver = receiver;
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    this.sends.push(parts[0]![1]!);
    if (!this.stalled) return Promise.resolve();
    return new Promise((_, reject) => this.#stuck.push(reject));
  }

  hear(...parts: Uint8Array[]): void {
    for (const part of parts) void this.receiver.bytes(part);
  }

  async close(error?: Error): Promise<void> {
    this.closed ??= error ?? "orderly";
    for (const reject of this.#stuck.splice(0)) reject(new TensorwireError("CHANNEL_CLOSED", "dropped"));
  }
}

const turn = (milliseconds = 20): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

test("a peer that sends garbage and reads nothing does not hold its error up", async () => {
  const channel = new StalledChannel();
  const sending = streamModel(model, channel, small);
  await turn();
  channel.hear(...hello);
  await turn();
  channel.stalled = true;
  const want = encodeWant({ windowBytes: 65536, ranges: [{ first: 0, count: 5 }] });
  channel.hear(encodeFrame(FrameType.WANT, 1, FLAG_TO_SENDER, want));
  await turn();
  channel.hear(new Uint8Array(64));
  await expect(sending).rejects.toMatchObject({ code: "FRAME_CORRUPT" });
  expect(channel.closed).toBeInstanceOf(TensorwireError);
});

const tensors = 64;
const manifest = Buffer.from(
  JSON.stringify({
    kind: "model",
    chunkBytes: 32768,
    codecs: [{ name: "none" }],
    tensors: Array.from({ length: tensors }, (_, i) => [`t${i}`, "U8", [32768], 0]),
    metadata: [],
  }),
);
const payload = new Uint8Array(32768);

test("a peer that sends by the credit it expects, and reads nothing, makes no queue here", async () => {
  const channel = new StalledChannel();
  const received = receiveModel(channel, small);
  const consuming = (async () => {
    for await (const _ of received.chunks()) {
    }
  })();
  consuming.catch(() => {});
  await turn();
  channel.hear(...hello);
  channel.hear(encodeFrame(FrameType.MANIFEST, 1, 0, manifest));
  await turn();
  channel.stalled = true;
  for (let tensor = 0; tensor < tensors; tensor++) {
    const record = {
      tensor,
      firstElement: 0,
      elements: 32768,
      codec: 0,
      packing: 0,
      payloadBytes: 32768,
      packedBytes: 32768,
      hash: xxh64(payload),
    };
    channel.hear(encodeDataHead(1, [record]), payload);
    await turn(5);
  }
  expect(channel.sends.filter((type) => type === FrameType.CREDIT).length).toBeLessThanOrEqual(1);
  channel.receiver.end(new Error("the wire was cut"));
  await expect(received.done).rejects.toMatchObject({ message: expect.stringContaining("the wire was cut") });
});

test("a receipt that a peer does not read does not outlast an abort", async () => {
  const [a, b] = memoryChannelPair();
  const abort = new AbortController();
  let stall = false;
  const half: Channel = {
    kind: "half",
    direction: "both",
    open: (receiver) => b.open(receiver),
    send: (parts) => {
      if (parts[0]![1] === FrameType.RECEIPT) stall = true;
      return stall ? new Promise(() => {}) : b.send(parts);
    },
    close: (error) => b.close(error),
  };
  const { done } = receiveModel(half, {
    signal: abort.signal,
    to: {
      name: "none",
      parallel: false,
      open: async () => {},
      write: () => undefined,
      finish: async () => {},
      abort: async () => {},
    },
  });
  const sending = streamModel(model, a, small);
  sending.catch(() => {});
  while (!stall) await turn();
  abort.abort();
  await expect(done).resolves.toMatchObject({ confirmed: false });
  await a.close(new Error("over"));
});

test("a caller that trains on after the last tensor does not hold a cancelled transfer up", async () => {
  const [a, b] = memoryChannelPair();
  const abort = new AbortController();
  const infos = [{ name: "w", dtype: "F32" as const, shape: [4] }];
  const source = fromTensors(
    infos,
    (async function* () {
      yield { ...infos[0]!, data: new Float32Array(4) };
      await new Promise(() => {});
    })(),
  );
  const sending = streamModel(source, a, { signal: abort.signal });
  const { done } = receiveModel(b, {
    to: {
      name: "none",
      parallel: false,
      open: async () => {},
      write: () => undefined,
      finish: async () => {},
      abort: async () => {},
    },
  });
  await turn(100);
  abort.abort();
  await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
  await expect(done).rejects.toMatchObject({ code: "ABORTED" });
});

test("what END says of the transfer must be what came", async () => {
  const channel = new StalledChannel();
  const { done } = receiveModel(channel, {
    to: {
      name: "none",
      parallel: false,
      open: async () => {},
      write: () => undefined,
      finish: async () => {},
      abort: async () => {},
    },
  });
  await turn();
  channel.hear(...hello);
  const empty = Buffer.from(
    JSON.stringify({ kind: "model", chunkBytes: 32768, codecs: [], tensors: [], metadata: [] }),
  );
  channel.hear(encodeFrame(FrameType.MANIFEST, 1, 0, empty));
  await turn();
  const totals = { digest: xxh64(empty), chunks: 7, sourceBytes: 0, clamped: 0 };
  channel.hear(encodeFrame(FrameType.END, 1, 0, encodeTotals(totals)));
  await expect(done).rejects.toMatchObject({ code: "PROTOCOL" });
});
