import {
  encodeCredit,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  FrameType,
  PortableBackend,
  type TensorwireError,
} from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, streamModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { failing, ScriptedPeer } from "./scripted-peer.js";

const backend = new PortableBackend();
const totals = { digest: 1n, chunks: 2, sourceBytes: 40000, clamped: 0 };
checksLoans();

describe("a receiver that breaks the protocol", () => {
  const model = { weight: { dtype: "F32", shape: [100, 100], data: new Float32Array(10_000) } } as const;
  async function sendTo(script: (peer: ScriptedPeer) => Promise<unknown>): Promise<TensorwireError> {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, chunkBytes: 32768 });
    sending.catch(() => {});
    await peer.hello("receive");
    await peer.hears(FrameType.MANIFEST);
    return failing(sending, peer, script(peer));
  }
  const back = { flags: FLAG_TO_SENDER };
  const want = encodeWant({ windowBytes: 65536, ranges: [{ first: 0, count: 2 }] });
  const cases: [string, string, (peer: ScriptedPeer) => Promise<unknown>][] = [
    [
      "wants chunks that are not there",
      "PROTOCOL",
      (p) =>
        p.say(FrameType.WANT, encodeWant({ windowBytes: 65536, ranges: [{ first: 1, count: 2 }] }), back),
    ],
    [
      "grants less than a chunk",
      "PROTOCOL",
      (p) => p.say(FrameType.WANT, encodeWant({ windowBytes: 1, ranges: [] }), back),
    ],
    [
      "wants twice",
      "PROTOCOL",
      (p) => p.say(FrameType.WANT, want, back).then(() => p.say(FrameType.WANT, want, back)),
    ],
    [
      "grants credit before it wants anything",
      "PROTOCOL",
      (p) => p.say(FrameType.CREDIT, encodeCredit({ limit: 9, finished: 0 }), back),
    ],
    [
      "takes credit back",
      "PROTOCOL",
      (p) =>
        p
          .say(FrameType.WANT, want, back)
          .then(() => p.say(FrameType.CREDIT, encodeCredit({ limit: 9, finished: 0 }), back)),
    ],
    ["confirms before the end", "PROTOCOL", (p) => p.say(FrameType.RECEIPT, encodeTotals(totals), back)],
    [
      "confirms something else",
      "DIGEST_MISMATCH",
      async (p) => {
        await p.say(FrameType.WANT, want, back);
        await p.hears(FrameType.END);
        await p.say(FrameType.RECEIPT, encodeTotals(totals), back);
      },
    ],
    ["sends data towards the sender", "PROTOCOL", (p) => p.say(FrameType.END, encodeTotals(totals), back)],
    [
      "reports a full disk",
      "PEER_FAILED",
      (p) => p.say(FrameType.ERROR, '{"code":"TARGET_FULL","message":"full"}', back),
    ],
    ["goes away", "CHANNEL_CLOSED", (p) => p.channel.close()],
  ];
  test.each(cases)("one that %s", async (_what, code, then) => {
    expect(await sendTo(then)).toMatchObject({ code });
  });

  test("one that lacks the codec is told before anything is announced", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const sending = streamModel(model, a, { backend, codec: "normfloat4", minElements: 0 });
    sending.catch(() => {});
    await peer.hello("receive", { codecs: ["none", "float16"] });
    await expect(sending).rejects.toMatchObject({ code: "CODEC_UNSUPPORTED", tensor: "weight" });
    expect(peer.heard.some(({ type }) => type === FrameType.MANIFEST)).toBe(false);
  });
});
