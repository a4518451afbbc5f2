import {
  type ChunkRecord,
  encodeTotals,
  FrameType,
  PortableBackend,
  type TensorwireError,
  xxh64,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, receiveModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { Disk, ResumableSink } from "./resumable-sink.js";
import { failing, ScriptedPeer } from "./scripted-peer.js";

const backend = new PortableBackend();
const CHUNK = 32_768;
checksLoans();

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
