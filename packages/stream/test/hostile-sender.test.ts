import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ChunkRecord,
  encodeDataHead,
  encodeTotals,
  FLAG_TO_SENDER,
  FrameType,
  PortableBackend,
  type TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryChannelPair, type ReceiveOptions, receiveModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failing, ScriptedPeer } from "./scripted-peer.js";

const backend = new PortableBackend();
let folder: string;
checksLoans();
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-"));
});
afterEach(async () => {
  // Nothing appears, neither the file nor a part of it.
  expect(await readdir(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});

const good = {
  kind: "model",
  chunkBytes: 32768,
  codecs: [{ name: "none" }, { name: "normfloat4", block: 64 }],
  tensors: [["weight", "F32", [100, 100], 0] as unknown[]],
  metadata: [] as unknown[],
};
const payload = new Uint8Array(32768).map((_, i) => i % 251);
const record: ChunkRecord = {
  tensor: 0,
  firstElement: 0,
  elements: 8192,
  codec: 0,
  packing: 0,
  payloadBytes: payload.length,
  packedBytes: payload.length,
  hash: xxh64(payload),
};
const rest = payload.subarray(0, 40000 - 32768);
const second: ChunkRecord = {
  ...record,
  firstElement: 8192,
  elements: 1808,
  payloadBytes: rest.length,
  packedBytes: rest.length,
  hash: xxh64(rest),
};
const totals = { digest: 1n, chunks: 2, sourceBytes: 40000, clamped: 0 };

/** Receives from a script; gives the error that the receiver ends with. */
async function receiveFrom(
  script: (peer: ScriptedPeer) => Promise<void>,
  options: ReceiveOptions = {},
): Promise<TensorwireError> {
  const [a, b] = memoryChannelPair();
  const peer = new ScriptedPeer(a);
  const to = join(folder, "model.safetensors");
  const { done } = receiveModel(b, { backend, windowBytes: 65536, to, ...options });
  return failing(done, peer, script(peer));
}

const announce =
  (manifest: object | string, then?: (peer: ScriptedPeer) => Promise<unknown>) =>
  async (peer: ScriptedPeer): Promise<void> => {
    await peer.hello("send");
    await peer.say(FrameType.MANIFEST, typeof manifest === "string" ? manifest : JSON.stringify(manifest));
    if (!then) return;
    await peer.hears(FrameType.WANT);
    await then(peer);
  };

describe("a sender that lies in its manifest is refused before anything is taken", () => {
  const header = (text: string, extra: object = {}) => ({
    ...good,
    header: { format: "safetensors", text },
    ...extra,
  });
  const F32 = (begin: number, end: number) => ({
    dtype: "F32",
    shape: [(end - begin) / 4],
    data_offsets: [begin, end],
  });
  const two = {
    tensors: [
      ["a", "F32", [2], 0],
      ["b", "F32", [2], 0],
    ],
  };
  const cases: [string, object | string, string][] = [
    ["is not JSON", "{", "MANIFEST_INVALID"],
    ["has no tensors", { ...good, tensors: undefined }, "MANIFEST_INVALID"],
    ["names a tensor twice", { ...good, tensors: [good.tensors[0], good.tensors[0]] }, "MANIFEST_INVALID"],
    [
      "names a tensor __metadata__",
      { ...good, tensors: [["__metadata__", "F32", [1], 0]] },
      "MANIFEST_INVALID",
    ],
    ["has a name too long", { ...good, tensors: [["x".repeat(5000), "F32", [1], 0]] }, "LIMIT_EXCEEDED"],
    [
      "has a shape that overflows",
      { ...good, tensors: [["w", "F32", [2 ** 40, 2 ** 40], 0]] },
      "MANIFEST_INVALID",
    ],
    [
      "hides an overflow behind a zero",
      { ...good, tensors: [["w", "F32", [2 ** 40, 0, 2 ** 40], 0]] },
      "MANIFEST_INVALID",
    ],
    ["has a negative dimension", { ...good, tensors: [["w", "F32", [-1], 0]] }, "MANIFEST_INVALID"],
    ["has an unknown dtype", { ...good, tensors: [["w", "F31", [1], 0]] }, "MANIFEST_INVALID"],
    ["has a codec that is not there", { ...good, codecs: [{ name: "zip" }] }, "CODEC_UNSUPPORTED"],
    [
      "has a codec with odd parameters",
      { ...good, codecs: [{ name: "normfloat4", block: 65 }] },
      "MANIFEST_INVALID",
    ],
    [
      "has a codec that does not take the dtype",
      { ...good, tensors: [["w", "I8", [1], 1]] },
      "MANIFEST_INVALID",
    ],
    ["points past its codecs", { ...good, tensors: [["w", "F32", [1], 2]] }, "MANIFEST_INVALID"],
    ["has chunks of nothing", { ...good, chunkBytes: 0 }, "MANIFEST_INVALID"],
    [
      "has chunks over half the window",
      { ...good, chunkBytes: 65536, tensors: [["w", "F32", [65536], 0]] },
      "LIMIT_EXCEEDED",
    ],
    [
      "has a header with a hole",
      header(JSON.stringify({ a: F32(0, 8), b: F32(12, 20) }), two),
      "MANIFEST_INVALID",
    ],
    [
      "has a header with an overlap",
      header(JSON.stringify({ a: F32(0, 8), b: F32(4, 12) }), two),
      "MANIFEST_INVALID",
    ],
    [
      "has a header of another model",
      header(JSON.stringify({ a: F32(0, 8), c: F32(8, 16) }), two),
      "MANIFEST_INVALID",
    ],
    ["sends two tensors as one raw file", { ...good, ...two, kind: "raw" }, "MANIFEST_INVALID"],
  ];
  test.each(cases)("one that %s", async (_what, manifest, code) => {
    expect(await receiveFrom(announce(manifest))).toMatchObject({ code });
  });

  test("a model over maxModelBytes, or over the free disk, is refused though it would fit the format", async () => {
    const large = { ...good, chunkBytes: 32768, tensors: [["w", "U8", [2 ** 38], 0]] };
    const limits = { maxModelBytes: 2 ** 30 };
    expect(await receiveFrom(announce(large), { limits })).toMatchObject({ code: "LIMIT_EXCEEDED" });
    const huge = { ...good, chunkBytes: 2 ** 22, tensors: [["w", "U8", [2 ** 45], 0]] };
    const error = await receiveFrom(announce(huge), { windowBytes: 2 ** 24 });
    expect(error).toMatchObject({ code: "TARGET_FULL" });
  });

  test("a manifest longer than the limit is refused before its body comes", async () => {
    const limits = { maxManifestBytes: 100 };
    expect(await receiveFrom(announce(good), { limits })).toMatchObject({ code: "LIMIT_EXCEEDED" });
  });
});

describe("a sender that breaks the protocol", () => {
  const cases: [string, string, (peer: ScriptedPeer) => Promise<unknown>][] = [
    ["sends a chunk twice", "PROTOCOL", (p) => p.data([record, record], [payload, payload])],
    ["begins in the middle", "PROTOCOL", (p) => p.data([second], [rest])],
    ["sends another tensor's chunk", "PROTOCOL", (p) => p.data([{ ...record, tensor: 7 }], [payload])],
    ["cuts a chunk short", "PROTOCOL", (p) => p.data([{ ...record, elements: 4096 }], [payload])],
    ["uses a codec of its own", "CODEC_UNSUPPORTED", (p) => p.data([{ ...record, codec: 999 }], [payload])],
    [
      "uses a codec that the manifest does not name",
      "PROTOCOL",
      (p) => p.data([{ ...record, codec: 1 }], [payload]),
    ],
    [
      "sends a payload of another length",
      "PAYLOAD_INVALID",
      (p) => p.data([{ ...record, payloadBytes: 100, packedBytes: 100 }], [payload.subarray(0, 100)]),
    ],
    [
      "sends a payload that is not its hash's",
      "CHUNK_CORRUPT",
      (p) => p.data([{ ...record, hash: 5n }], [payload]),
    ],
    ["uses a reserved packing", "PROTOCOL", (p) => p.data([{ ...record, packing: 3 }], [payload])],
    ["ends early", "PROTOCOL", (p) => p.say(FrameType.END, encodeTotals(totals))],
    [
      "ends with another digest",
      "DIGEST_MISMATCH",
      async (p) => {
        await p.data([record, second], [payload, rest]);
        await p.say(FrameType.END, encodeTotals(totals));
      },
    ],
    [
      "sends data of a transfer that nobody announced",
      "PROTOCOL",
      (p) => p.raw(encodeDataHead(9, [record]), payload),
    ],
    ["announces the same transfer again", "PROTOCOL", (p) => p.say(FrameType.MANIFEST, JSON.stringify(good))],
    [
      "announces a model in the wrong direction",
      "PROTOCOL",
      (p) => p.say(FrameType.MANIFEST, JSON.stringify(good), { transfer: 2, flags: FLAG_TO_SENDER }),
    ],
    ["pings for a transfer", "PROTOCOL", (p) => p.say(FrameType.PING, "", { transfer: 3 })],
    ["says HELLO again", "PROTOCOL", (p) => p.say(FrameType.HELLO, "{}", { transfer: 0 })],
    [
      "reports a failure",
      "PEER_FAILED",
      (p) => p.say(FrameType.ERROR, '{"code":"SOURCE_READ","message":"the disk died"}'),
    ],
    ["cancels", "ABORTED", (p) => p.say(FrameType.CANCEL, '{"code":"ABORTED","message":"no more"}')],
    ["reports a failure in gibberish", "PROTOCOL", (p) => p.say(FrameType.ERROR, "gibberish")],
    ["goes away", "CHANNEL_CLOSED", (p) => p.channel.close()],
  ];
  test.each(cases)("one that %s", async (_what, code, then) => {
    expect(await receiveFrom(announce(good, then))).toMatchObject({ code });
  });

  test("the error names tensor and chunk", async () => {
    const error = await receiveFrom(announce(good, (p) => p.data([{ ...record, hash: 5n }], [payload])));
    expect(error).toMatchObject({ tensor: "weight", chunk: 0, retryable: true });
    expect(error.message).toContain('tensor "weight", chunk 0');
  });

  test("one that sends more than it has credit for", async () => {
    const many = { ...good, tensors: [["w", "F32", [8192 * 8], 0]] };
    const error = await receiveFrom(
      announce(many, async (peer) => {
        for (let i = 0; i < 8; i++) await peer.data([{ ...record, firstElement: i * 8192 }], [payload]);
      }),
      { to: { ...sinkThatWaits(), name: "a sink that waits" } },
    );
    expect(error).toMatchObject({ code: "CREDIT_EXCEEDED" });
  });

  function sinkThatWaits() {
    let stop: (error: Error) => void = () => {};
    const waiting = new Promise<void>((_, reject) => {
      stop = reject;
    });
    waiting.catch(() => {});
    return {
      parallel: false,
      open: async () => {},
      write: () => waiting,
      finish: async () => {},
      abort: async (error: Error) => stop(error),
    };
  }

  test("one that sends data before it was asked, or a manifest before HELLO, or no frames at all", async () => {
    const early = await receiveFrom(async (peer) => {
      await peer.hello("send");
      await peer.say(FrameType.MANIFEST, JSON.stringify(good));
      await peer.data([record], [payload]);
    });
    // It may have been asked by then: the sink opens at once. What matters is that nothing is left.
    expect(["PROTOCOL", "CHANNEL_CLOSED"]).toContain(early.code);
    expect(await receiveFrom((peer) => peer.say(FrameType.MANIFEST, JSON.stringify(good)))).toMatchObject({
      code: "PROTOCOL",
    });
    expect(await receiveFrom((peer) => peer.raw(Buffer.from("GET / HTTP/1.1\r\n\r\n")))).toMatchObject({
      code: "PROTOCOL",
    });
    expect(await receiveFrom((peer) => peer.hello("send", { versions: [7] }))).toMatchObject({
      code: "VERSION_UNSUPPORTED",
    });
  });
});
