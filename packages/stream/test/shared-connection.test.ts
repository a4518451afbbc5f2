import { encodeCredit, encodeDataHead, encodeWant, FLAG_TO_SENDER, FrameType, xxh64 } from "@tensorwire/core";
import { expect, test } from "vitest";
import {
  memoryChannelPair,
  type ReceivedModel,
  receiveModel,
  type Sink,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

const ends = checksLoans();

const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000).fill(1) } };
const small = { chunkBytes: 32768, windowBytes: 65536 };

async function consume(received: ReceivedModel): Promise<number> {
  let tensors = 0;
  for await (const _ of received) tensors++;
  await received.done;
  return tensors;
}

/** A sink that takes its time for every chunk. */
function slowSink(milliseconds: number): Sink {
  return {
    name: "slow",
    parallel: false,
    open: async () => {},
    write: () => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    finish: async () => {},
    abort: async () => {},
  };
}

test("a receiver that gives up before anything is announced leaves the other transfers alone", async () => {
  const [a, b] = memoryChannelPair();
  const abort = new AbortController();
  const waiting = receiveModel(a, { signal: abort.signal });
  const received = receiveModel(b, small)[Symbol.asyncIterator]();
  const sending = streamModel(model, a, small);
  const first = received.next();
  await new Promise((resolve) => setTimeout(resolve, 50));
  abort.abort();
  await expect(waiting.done).rejects.toMatchObject({ code: "ABORTED" });
  await expect(first).resolves.toMatchObject({ done: false });
  await expect(received.next()).resolves.toMatchObject({ done: true });
  await expect(sending).resolves.toMatchObject({ confirmed: true });
});

test("a transfer that fails leaves the connection to the next one", async () => {
  const [a, b] = memoryChannelPair();
  const failing = receiveModel(b, { ...small, to: slowSink(1500) });
  const abort = new AbortController();
  const sending = streamModel(model, a, { ...small, signal: abort.signal });
  await failing.manifest;
  await new Promise((resolve) => setTimeout(resolve, 50));
  abort.abort();
  await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
  await expect(failing.done).rejects.toMatchObject({ code: "ABORTED" });
  const received = consume(receiveModel(b, small));
  await expect(streamModel(model, a, small)).resolves.toMatchObject({ confirmed: true });
  await expect(received).resolves.toBe(1);
});

test("an exception of the caller's onProgress fails its transfer, not the connection", async () => {
  const [a, b] = memoryChannelPair();
  const large: TensorMap = { w: { dtype: "F32", shape: [400_000], data: new Float32Array(400_000) } };
  const received = receiveModel(b, { ...small, to: slowSink(40) });
  const sending = streamModel(large, a, {
    ...small,
    onProgress: ({ acknowledgedBytes }) => {
      if (acknowledgedBytes > 0) throw new Error("the display is gone");
    },
  });
  await expect(sending).rejects.toMatchObject({ message: expect.stringContaining("the display is gone") });
  await expect(received.done).rejects.toMatchObject({ code: "PEER_FAILED" });
  const again = consume(receiveModel(b, small));
  await expect(streamModel(model, a, small)).resolves.toMatchObject({ confirmed: true });
  await expect(again).resolves.toBe(1);
});

const manifest = JSON.stringify({
  kind: "model",
  chunkBytes: 32768,
  codecs: [{ name: "none" }],
  tensors: [["weight", "F32", [10_000], 0]],
  metadata: [],
});
const payload = new Uint8Array(32768);
const record = {
  tensor: 0,
  firstElement: 0,
  elements: 8192,
  codec: 0,
  packing: 0,
  payloadBytes: payload.length,
  packedBytes: payload.length,
  hash: xxh64(payload),
};

test("a transfer cancelled in the middle of a chunk gives its buffer back at once", async () => {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(a);
  const abort = new AbortController();
  const { done } = receiveModel(b, { ...small, to: slowSink(0), signal: abort.signal });
  await peer.hello("any");
  await peer.say(FrameType.MANIFEST, manifest);
  await peer.hears(FrameType.WANT);
  await peer.raw(encodeDataHead(1, [record]), payload.subarray(0, 1000));
  abort.abort();
  await expect(done).rejects.toMatchObject({ code: "ABORTED" });
  expect(ends).toMatchObject([{ role: "receive", loans: 0 }]);
  // The rest of the chunk is read past: the next transfer begins where it ends.
  await peer.raw(payload.subarray(1000));
  const received = receiveModel(b, { ...small, to: slowSink(0) });
  await peer.say(FrameType.MANIFEST, manifest, { transfer: 2 });
  await expect(received.manifest).resolves.toMatchObject({ chunkBytes: 32768 });
  await a.close(new Error("over"));
  await expect(received.done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("chunks of a transfer that nobody here has taken are refused, not lost", async () => {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(a);
  const first = receiveModel(b, { ...small, to: slowSink(0) });
  await peer.hello("any");
  await peer.say(FrameType.MANIFEST, manifest);
  await peer.hears(FrameType.WANT);
  await peer.say(FrameType.MANIFEST, manifest, { transfer: 2 });
  await peer.raw(encodeDataHead(2, [record]), payload);
  await expect(first.done).rejects.toMatchObject({ code: "PROTOCOL" });
});

test("the manifests that wait for a receiver are bounded in bytes", async () => {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(a);
  const limits = { maxManifestBytes: 1000 };
  const first = receiveModel(b, { ...small, limits, to: slowSink(0) });
  await peer.hello("any");
  await peer.say(FrameType.MANIFEST, manifest);
  await peer.hears(FrameType.WANT);
  await peer.say(FrameType.MANIFEST, manifest.padEnd(600), { transfer: 2 });
  await peer.say(FrameType.MANIFEST, manifest.padEnd(600), { transfer: 3 });
  await expect(first.done).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
});

test("a sender is told nothing it did not send: acknowledged bytes are checked", async () => {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(a);
  const sending = streamModel(model, b, small);
  await peer.hello("any");
  await peer.hears(FrameType.MANIFEST);
  const back = { flags: FLAG_TO_SENDER };
  await peer.say(FrameType.WANT, encodeWant({ windowBytes: 65536, ranges: [{ first: 0, count: 5 }] }), back);
  await peer.say(FrameType.CREDIT, encodeCredit({ limit: 70_000, finished: 10 ** 12 }), back);
  await expect(sending).rejects.toMatchObject({ code: "PROTOCOL" });
});
