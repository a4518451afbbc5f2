import { PassThrough } from "node:stream";
import {
  type Chunk,
  type ChunkRange,
  encodeManifest,
  encodeTotals,
  FrameType,
  type Manifest,
  parseWant,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, type ModelSink, receiveModel, streamModel } from "../src/index.js";
import { ScriptedPeer } from "./scripted-peer.js";
import { failure } from "./sink-fixture.js";

const CHUNK = 32 * 1024;
const WINDOW = 8 * CHUNK;
const CHUNKS = 12;
const model = {
  w: { dtype: "F32", shape: [CHUNKS * 8192], data: Float32Array.from({ length: CHUNKS * 8192 }, Math.sin) },
} as const;
const ranges = [
  { first: 1, count: 2 },
  { first: 5, count: 4 },
];

/** Takes a part, and says which chunks it got. */
function partSink(part: readonly ChunkRange[], windowBytes = WINDOW) {
  const got: number[] = [];
  const sink: ModelSink = {
    name: "part sink",
    parallel: false,
    part: { ranges: part, windowBytes },
    async open() {},
    async write(chunk: Chunk, bytes) {
      const { data } = model.w;
      const whole = new Uint8Array(data.buffer, chunk.offset, chunk.bytes);
      expect(Buffer.compare(bytes, whole)).toBe(0);
      got.push(chunk.ordinal);
    },
    async finish() {},
    async abort() {},
  };
  return { sink, got };
}

describe("a sink that takes a part of a model", () => {
  test("gets that, decoded, with a digest of it", async () => {
    const [a, b] = memoryChannelPair();
    const { sink, got } = partSink(ranges);
    const receiving = receiveModel(b, { to: sink, windowBytes: WINDOW }).done;
    const sent = await streamModel(model, a, { chunkBytes: CHUNK, windowBytes: WINDOW });
    expect(got).toEqual([1, 2, 5, 6, 7, 8]);
    const received = await receiving;
    expect([sent.confirmed, received.digest]).toEqual([true, sent.digest]);
    await a.close();
  });

  test("grants no more than it says, and at least a chunk", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(a);
    const { sink } = partSink(ranges, CHUNK);
    const receiving = failure(receiveModel(b, { to: sink, windowBytes: WINDOW }).done);
    await peer.hello("send");
    await peer.say(FrameType.SOURCE, '{"version":"one"}');
    await peer.say(FrameType.MANIFEST, encodeManifest(manifest));
    const want = parseWant((await peer.hears(FrameType.WANT))!, CHUNKS);
    expect(want).toEqual({ windowBytes: CHUNK, ranges, sameVersion: false, part: true });
    await a.close(new Error("enough"));
    expect((await receiving).code).toBe("CHANNEL_CLOSED");
  });

  const manifest: Manifest = {
    kind: "model",
    chunkBytes: CHUNK,
    metadata: new Map(),
    tensors: [{ name: "w", dtype: "F32", shape: [CHUNKS * 8192], codec: { name: "none" } }],
  };
  const payload = (ordinal: number): Uint8Array =>
    new Uint8Array(model.w.data.buffer, ordinal * CHUNK, CHUNK);
  const record = (ordinal: number) => ({
    ...{ tensor: 0, codec: 0, packing: 0, firstElement: ordinal * 8192, elements: 8192 },
    ...{ payloadBytes: CHUNK, packedBytes: CHUNK, hash: xxh64(payload(ordinal)) },
  });

  test.each<[string, readonly number[], string]>([
    ["a chunk that is no part of it", [1, 2, 3], "PROTOCOL"],
    ["a chunk before it", [0], "PROTOCOL"],
    ["less than it", [1, 2, 5], "PROTOCOL"],
    ["all of it, and the digest of something else", [1, 2, 5, 6, 7, 8], "DIGEST_MISMATCH"],
  ])("refuses %s", async (_what, ordinals, code) => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(a);
    const { sink } = partSink(ranges);
    const receiving = failure(receiveModel(b, { to: sink, windowBytes: WINDOW }).done);
    await peer.hello("send");
    await peer.say(FrameType.SOURCE, '{"version":"one"}');
    await peer.say(FrameType.MANIFEST, encodeManifest(manifest));
    await peer.hears(FrameType.WANT);
    for (const ordinal of ordinals) await peer.data([record(ordinal)], [payload(ordinal)]);
    const chunks = ordinals.length;
    const totals = { digest: 1n, chunks, sourceBytes: chunks * CHUNK, clamped: 0 };
    await peer.say(FrameType.END, encodeTotals(totals));
    expect((await receiving).code).toBe(code);
    await a.close();
  });

  test("gets nothing over a channel without a way back, which brings all", async () => {
    const pipe = new PassThrough();
    const { sink, got } = partSink(ranges);
    const receiving = failure(receiveModel({ readable: pipe }, { to: sink, windowBytes: WINDOW }).done);
    const sending = streamModel(model, { writable: pipe }, { chunkBytes: CHUNK, windowBytes: WINDOW });
    sending.catch(() => {});
    expect(await receiving).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("without a way back"),
    });
    expect(got).toEqual([]);
    pipe.destroy();
    await sending.catch(() => {});
  });
});
