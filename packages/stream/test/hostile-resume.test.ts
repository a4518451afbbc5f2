import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { join } from "node:path";
import {
  ChunkPlan,
  type ChunkRecord,
  encodeAck,
  encodeCredit,
  encodeFrame,
  encodeHeld,
  encodeTotals,
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
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { TransferEndMessage } from "../src/diagnostics/events.js";
import { memoryChannelPair, receiveModel, type StreamOptions, streamModel } from "../src/index.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import { ScriptedPeer } from "./scripted-peer.js";
import { folder } from "./sink-fixture.js";

const backend = new PortableBackend();
const ends: TransferEndMessage[] = [];
const onEnd = (message: unknown): void => void ends.push(message as TransferEndMessage);
beforeEach(() => subscribe("tensorwire:transfer:end", onEnd));
afterEach(() => {
  unsubscribe("tensorwire:transfer:end", onEnd);
  expect(ends.splice(0).filter(({ loans }) => loans !== 0)).toEqual([]);
});

const CHUNK = 32_768;
const back = { flags: FLAG_TO_SENDER };

/** What ends the transfer that the peer of a script takes part in. */
async function failing(
  work: Promise<unknown>,
  peer: ScriptedPeer,
  script: Promise<unknown>,
): Promise<TensorwireError> {
  const error = await work.then(
    () => expect.unreachable("the transfer must not succeed"),
    (reason: unknown) => reason as TensorwireError,
  );
  await peer.channel.close(new Error("over"));
  await script;
  return error;
}

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

describe("a sender that breaks the protocol of resuming", () => {
  const manifest = {
    kind: "model",
    chunkBytes: CHUNK,
    codecs: [{ name: "none" }],
    tensors: [["w", "F32", [4 * 8192], 0]],
    metadata: [],
  };
  const payload = (fill: number): Uint8Array => new Uint8Array(CHUNK).fill(fill);
  const record = (ordinal: number, fill = ordinal): ChunkRecord => ({
    tensor: 0,
    firstElement: ordinal * 8192,
    elements: 8192,
    codec: 0,
    packing: 0,
    payloadBytes: CHUNK,
    packedBytes: CHUNK,
    hash: xxh64(payload(fill)),
  });
  const data = (p: ScriptedPeer, ordinal: number, fill = ordinal) =>
    p.data([record(ordinal, fill)], [payload(fill)]);

  /** A receiver that has the first two chunks of version "one". */
  async function receiveFrom(
    script: (peer: ScriptedPeer) => Promise<unknown>,
    version: string | undefined = "one",
  ): Promise<TensorwireError> {
    const disk = new Disk();
    await begin(disk, async (p) => {
      await data(p, 0);
      await data(p, 1);
      await p.hears(FrameType.ACK);
      await p.channel.close();
    });
    expect(disk.journal.size).toBe(2);
    return begin(disk, script, version);
  }

  async function begin(
    disk: Disk,
    script: (peer: ScriptedPeer) => Promise<unknown>,
    version: string | undefined = "one",
  ): Promise<TensorwireError> {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(a);
    const { done } = receiveModel(b, { backend, windowBytes: 2 * CHUNK, to: new ResumableSink(disk) });
    const run = async (): Promise<void> => {
      await peer.hello("send");
      if (version !== undefined) await peer.say(FrameType.SOURCE, JSON.stringify({ version }));
      await peer.say(FrameType.MANIFEST, JSON.stringify(manifest));
      await peer.hears(FrameType.WANT);
      await script(peer);
    };
    return failing(done, peer, run());
  }

  const cases: [string, string | undefined, (peer: ScriptedPeer) => Promise<unknown>][] = [
    ["sends a held chunk of the same version", "one", (p) => data(p, 0)],
    ["sends a held chunk after one that was wanted", "two", (p) => data(p, 2).then(() => data(p, 1, 9))],
    ["sends held chunks in another order", "two", (p) => data(p, 1, 9).then(() => data(p, 0, 9))],
    ["sends a held chunk twice", "two", (p) => data(p, 0, 9).then(() => data(p, 0, 9))],
    [
      "cuts a held chunk short",
      "two",
      (p) => p.data([{ ...record(0), elements: 4096, payloadBytes: 4, packedBytes: 4 }], [new Uint8Array(4)]),
    ],
    [
      "sends a chunk of a tensor that is not there",
      "two",
      (p) => p.data([{ ...record(0), tensor: 7 }], [payload(0)]),
    ],
    ["ends without what was wanted", "one", (p) => p.say(FrameType.END, encodeTotals(totals(0)))],
    [
      "counts held chunks as sent",
      "one",
      async (p) => {
        await data(p, 2);
        await data(p, 3);
        await p.say(FrameType.END, encodeTotals(totals(4)));
      },
    ],
  ];
  const totals = (chunks: number) => ({
    digest: 1n,
    chunks,
    sourceBytes: chunks * CHUNK,
    clamped: 0,
  });
  test.each(cases)("one that %s", async (_what, version, script) => {
    const { code } = await receiveFrom(script, version);
    // A wrong digest may be seen before a wrong count.
    expect(["PROTOCOL", "DIGEST_MISMATCH"]).toContain(code);
  });

  test("one that sends a changed chunk that does not match its hash leaves no chunk held that is not there", async () => {
    const error = await receiveFrom((p) => p.data([{ ...record(0), hash: 5n }], [payload(9)]), "two");
    expect(error).toMatchObject({ code: "CHUNK_CORRUPT", chunk: 0 });
  });

  describe("in what it says of its source", () => {
    const say = (p: ScriptedPeer, type: FrameType, transfer: number, body: object = {}) =>
      p.say(type, JSON.stringify(body), { transfer });
    const announcing: [string, (p: ScriptedPeer) => Promise<unknown>][] = [
      ["speaks twice", (p) => say(p, FrameType.SOURCE, 1).then(() => say(p, FrameType.SOURCE, 1))],
      [
        "speaks of several transfers before their manifests",
        (p) => say(p, FrameType.SOURCE, 1).then(() => say(p, FrameType.SOURCE, 2)),
      ],
      [
        "announces another transfer than the one it spoke of",
        (p) => say(p, FrameType.SOURCE, 1).then(() => say(p, FrameType.MANIFEST, 2, manifest)),
      ],
      [
        "speaks of a transfer that is announced already",
        (p) => say(p, FrameType.MANIFEST, 1, manifest).then(() => say(p, FrameType.SOURCE, 1)),
      ],
      ["speaks of no transfer", (p) => say(p, FrameType.SOURCE, 0)],
      ["speaks before HELLO", (p) => say(p, FrameType.SOURCE, 1)],
      ["has an empty version", (p) => say(p, FrameType.SOURCE, 1, { version: "" })],
      ["has a version without end", (p) => say(p, FrameType.SOURCE, 1, { version: "x".repeat(129) })],
      ["has a version that is no string", (p) => say(p, FrameType.SOURCE, 1, { version: 5 })],
    ];
    test.each(announcing)("one that %s", async (what, script) => {
      const [a, b] = memoryChannelPair();
      const peer = new ScriptedPeer(a);
      const { done } = receiveModel(b, {
        backend,
        windowBytes: 2 * CHUNK,
        to: new ResumableSink(new Disk()),
      });
      const run = async (): Promise<void> => {
        if (what !== "speaks before HELLO") await peer.hello("send");
        else await peer.raw(Buffer.from("8954574952450d0a", "hex"));
        await script(peer);
      };
      expect(await failing(done, peer, run())).toMatchObject({ code: "PROTOCOL" });
    });

    test("a transfer that was given up before its manifest does not stand in the way of the next", async () => {
      const [a, b] = memoryChannelPair();
      const peer = new ScriptedPeer(a);
      const disk = new Disk();
      const { done } = receiveModel(b, { backend, windowBytes: 2 * CHUNK, to: new ResumableSink(disk) });
      done.catch(() => {});
      await peer.hello("send");
      await say(peer, FrameType.SOURCE, 1, { version: "one" });
      await say(peer, FrameType.CANCEL, 1, { code: "ABORTED", message: "not now" });
      await say(peer, FrameType.SOURCE, 2, { version: "two" });
      await say(peer, FrameType.MANIFEST, 2, manifest);
      await peer.hears(FrameType.WANT);
      expect(disk.version).toBe("two");
      await a.close();
      await expect(done).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    });
  });
});
