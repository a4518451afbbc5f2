import { join } from "node:path";
import {
  ChunkPlan,
  encodeAck,
  encodeCredit,
  encodeFrame,
  encodeHeld,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  type Held,
  PortableBackend,
  parseTotals,
  type TensorwireError,
  TransferDigest,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, type StreamOptions, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failing, ScriptedPeer } from "./scripted-peer.js";
import { folder } from "./sink-fixture.js";

const backend = new PortableBackend();
const CHUNK = 32_768;
const back = { flags: FLAG_TO_SENDER };
checksLoans();

describe("a receiver that breaks the protocol of resuming", () => {
  // Four chunks of as many bytes.
  const model = { w: { dtype: "F32", shape: [4 * 8192], data: new Float32Array(4 * 8192) } } as const;

  async function sendTo(
    script: (peer: ScriptedPeer) => Promise<unknown>,
    options: StreamOptions = { version: "one" },
  ): Promise<TensorwireError> {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, chunkBytes: CHUNK, ...options });
    sending.catch(() => {});
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    return failing(sending, peer, script(peer));
  }

  const held = (first: number, count: number): Held => ({
    first,
    chunks: Array.from({ length: count }, () => ({ codec: 0, hash: 7n })),
  });
  const hold = (p: ScriptedPeer, first: number, count: number) =>
    p.say(FrameType.HELD, encodeHeld(held(first, count), "xxh64"), back);
  const want = (p: ScriptedPeer, first: number, count: number, sameVersion = false) =>
    p.say(
      FrameType.WANT,
      encodeWant({ windowBytes: 4 * CHUNK, ranges: count ? [{ first, count }] : [], sameVersion }),
      back,
    );
  const wantPart = (p: ScriptedPeer, first: number, count: number, sameVersion = false) =>
    p.say(
      FrameType.WANT,
      encodeWant({
        windowBytes: 4 * CHUNK,
        ranges: count ? [{ first, count }] : [],
        sameVersion,
        part: true,
      }),
      back,
    );
  const ack = (p: ScriptedPeer, durable: number) => p.say(FrameType.ACK, encodeAck({ durable }), back);

  const cases: [string, (peer: ScriptedPeer) => Promise<unknown>][] = [
    ["holds chunks that are not there", (p) => hold(p, 3, 2)],
    ["holds out of order", (p) => hold(p, 2, 1).then(() => hold(p, 0, 1))],
    ["holds a chunk twice", (p) => hold(p, 0, 2).then(() => hold(p, 1, 1))],
    ["holds nothing", (p) => p.say(FrameType.HELD, new Uint8Array(8), back)],
    ["holds half a chunk", (p) => p.say(FrameType.HELD, encodeHeld(held(0, 1), "xxh64").slice(0, 12), back)],
    [
      "holds with hashes that are not the manifest's",
      (p) =>
        p.say(
          FrameType.HELD,
          encodeHeld({ first: 0, chunks: [{ codec: 0, hash: 1n, sha256: new Uint8Array(32) }] }, "sha256"),
          back,
        ),
    ],
    ["holds more once it has wanted", (p) => want(p, 0, 4).then(() => hold(p, 0, 1))],
    ["wants what it holds", (p) => hold(p, 0, 2).then(() => want(p, 1, 3))],
    ["neither holds nor wants a chunk", (p) => hold(p, 0, 1).then(() => want(p, 2, 2))],
    ["wants less than all, and holds nothing", (p) => want(p, 1, 3)],
    ["acknowledges before it wants anything", (p) => ack(p, 0)],
    ["acknowledges what was not sent", (p) => want(p, 0, 4).then(() => ack(p, 4 * CHUNK + 1))],
    [
      "takes an acknowledgement back",
      async (p) => {
        await want(p, 0, 4);
        await p.hears(FrameType.END);
        await ack(p, 2 * CHUNK);
        await ack(p, CHUNK);
      },
    ],
    ["sends a source towards the sender", (p) => p.say(FrameType.SOURCE, '{"version":"x"}', back)],
    [
      "has finished with chunks that it held",
      async (p) => {
        await hold(p, 0, 3);
        await want(p, 3, 1, true);
        await p.hears(FrameType.END);
        const credit = { limit: 9 * CHUNK, finished: 2 * CHUNK };
        await p.say(FrameType.CREDIT, encodeCredit(credit), back);
      },
    ],
  ];
  test.each(cases)("one that %s", async (_what, script) => {
    expect(await sendTo(script)).toMatchObject({ code: "PROTOCOL" });
  });

  test.each<[string, (peer: ScriptedPeer) => Promise<unknown>]>([
    ["wants what it holds", (p) => hold(p, 0, 2).then(() => wantPart(p, 1, 1))],
    ["wants what is not there", (p) => wantPart(p, 3, 2)],
  ])("one that asks for a part, and %s", async (_what, script) => {
    expect(await sendTo(script)).toMatchObject({ code: "PROTOCOL" });
  });

  test.each([
    ["nothing", 0, 0, 0],
    ["some of it", 1, 2, 0],
    ["what it lacks of a part", 2, 1, 1],
    ["all of it", 0, 4, 0],
  ])("one that asks for %s gets that, and a digest of that", async (_what, first, count, holds) => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, chunkBytes: CHUNK, version: "one" });
    await peer.hello("receive");
    const manifest = (await peer.hears(FrameType.MANIFEST))!;
    if (holds) await hold(peer, 0, holds);
    await wantPart(peer, first, count, holds > 0);
    const body = (await peer.hears(FrameType.END))!;
    const end = parseTotals("END", body);
    expect(peer.chunks.map(({ record }) => record.firstElement / 8192)).toEqual(
      Array.from({ length: count }, (_, i) => first + i),
    );
    const digest = new TransferDigest(new ChunkPlan([{ name: "w", ...model.w }], CHUNK));
    for (let i = 0; i < holds; i++) digest.add(i, 0, 7n);
    for (let i = first; i < first + count; i++) digest.add(i, 0, xxh64(new Uint8Array(CHUNK)));
    expect(end).toMatchObject({
      ...{ digest: digest.transfer(manifest, 1), chunks: count, sourceBytes: count * CHUNK },
    });
    await peer.say(FrameType.RECEIPT, body, back);
    expect((await sending).confirmed).toBe(true);
    await a.close();
  });

  test("one that asks for a part of what leaves residuals is told no", async () => {
    const residuals = join(folder(), "residuals");
    const options = { codec: "linear4", minElements: 0, residuals };
    const error = await sendTo((p) => wantPart(p, 0, 1), options);
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("residuals") });
  });

  test("one that speaks of the same version of a source that has none", async () => {
    const script = (p: ScriptedPeer) => hold(p, 0, 1).then(() => want(p, 1, 3, true));
    expect(await sendTo(script, {})).toMatchObject({ code: "PROTOCOL" });
  });

  test("credit that comes in the same portion as WANT is no credit that goes back", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, chunkBytes: CHUNK });
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    const range = { windowBytes: CHUNK, ranges: [{ first: 0, count: 4 }] };
    await peer.raw(
      Buffer.concat([
        encodeFrame(FrameType.WANT, 1, FLAG_TO_SENDER, encodeWant(range)),
        encodeFrame(FrameType.CREDIT, 1, FLAG_TO_SENDER, encodeCredit({ limit: 4 * CHUNK, finished: 0 })),
      ]),
    );
    await peer.say(FrameType.RECEIPT, (await peer.hears(FrameType.END))!, back);
    expect((await sending).confirmed).toBe(true);
    await a.close();
  });

  test("one that says it holds what it does not have harms itself alone: what is compared is sent", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, chunkBytes: CHUNK });
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    await peer.say(
      FrameType.HELD,
      encodeHeld({ first: 0, chunks: [{ codec: 65535, hash: 0n }] }, "xxh64"),
      back,
    );
    await want(peer, 1, 3);
    await peer.say(FrameType.RECEIPT, (await peer.hears(FrameType.END))!, back);
    expect((await sending).resumedBytes).toBe(0);
    expect(peer.chunks.map(({ record }) => record.firstElement)).toEqual([0, 8192, 16_384, 24_576]);
    await a.close();
  });
});
