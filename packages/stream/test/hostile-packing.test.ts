import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type ChunkRecord, encodeTotals, FrameType, PortableBackend, xxh64 } from "@tensorwire/core";
import { defaultBackend } from "@tensorwire/quant-native";
import { describe, expect, test } from "vitest";
import { memoryChannelPair, type Sink, receiveModel } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { registry, scratch } from "./packing-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

checksLoans();

const ELEMENTS = 8192;
const manifest = {
  kind: "model",
  chunkBytes: 32768,
  codecs: [{ name: "normfloat4", block: 64 }, { name: "none" }, { name: "declining" }],
  tensors: [["weight", "F32", [ELEMENTS], 0] as unknown[]],
  metadata: [] as unknown[],
};
const SCALES = (ELEMENTS / 64) * 4;
const CODES = ELEMENTS / 2;

/** All zeros: what two runs make of it is a payload that is one. */
const payload = new Uint8Array(SCALES + CODES);
const base: ChunkRecord = {
  tensor: 0,
  firstElement: 0,
  elements: ELEMENTS,
  codec: 5,
  packing: 1,
  payloadBytes: payload.length,
  packedBytes: 0,
  hash: xxh64(payload),
};

const u32 = (value: number): number[] =>
  [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 255);
const u24 = (value: number): number[] => u32(value).slice(0, 3);

interface Frame {
  readonly magic?: number[];
  /** As the frame says. */
  readonly content: number;
  /** Of one byte each, as the blocks say. */
  readonly runs?: readonly number[];
  readonly descriptor?: number[];
}

/** A zstd frame of runs of zeros. */
function zstd({ content, runs = [content], magic = u32(0xfd2fb528), descriptor = [0xa0] }: Frame): number[] {
  const blocks = runs.flatMap((length, i) => [
    ...u24((length << 3) | (1 << 1) | (i === runs.length - 1 ? 1 : 0)),
    0,
  ]);
  return [...magic, ...descriptor, ...u32(content), ...blocks];
}

/** An envelope of these parts, with the lengths that they have or are said to have. */
function envelope(
  parts: readonly number[][],
  lengths: readonly number[] = parts.map(({ length }) => length),
) {
  return Uint8Array.from([...lengths.flatMap(u32), ...parts.flat()]);
}

const scales = zstd({ content: SCALES });
const codes = zstd({ content: CODES });
const good = envelope([scales, codes]);
/** A window of 2 GiB, and a content of 4 bytes' length behind it. */
const wide = [0x80, 21 << 3];

interface Lie {
  readonly bytes?: Uint8Array;
  readonly record?: Partial<ChunkRecord>;
  readonly manifest?: object;
  readonly code: string | RegExp;
  /** Damage on the way may look like this. */
  readonly retryable?: boolean;
}

const invalid = { code: "PAYLOAD_INVALID", retryable: true };
/** Not every library counts what a frame's blocks make: then it is for the hash to tell, which here agrees. */
const invalidOrRight = { code: /^(PAYLOAD_INVALID|DIGEST_MISMATCH)$/ };
const lies: Record<string, Lie> = {
  "a packed length of a payload that is not packed": { record: { packing: 0 }, code: "PROTOCOL" },
  "a packing that is as long as the payload": {
    bytes: payload,
    code: "PROTOCOL",
  },
  "a packing that is longer": { bytes: new Uint8Array(payload.length + 1), code: "PROTOCOL" },
  "a packing of no bytes": { bytes: new Uint8Array(0), code: "PROTOCOL" },
  "a packing that there is not": { record: { packing: 2 }, code: "PROTOCOL" },
  "an envelope shorter than its table": { bytes: good.subarray(0, 7), ...invalid },
  "an envelope of a table alone": { bytes: envelope([[], []], [0, 0]), ...invalid },
  "a part longer than its segment": { bytes: envelope([scales, codes], [SCALES + 1, 1]), ...invalid },
  "a part that ends behind the envelope": {
    bytes: envelope([scales, codes], [scales.length, codes.length + 1]),
    ...invalid,
  },
  "a part of 4 GiB": { bytes: envelope([scales, codes], [2 ** 32 - 1, codes.length]), ...invalid },
  "bytes behind the last part": { bytes: Uint8Array.from([...good, 0]), ...invalid },
  "a part that is no zstd frame": { bytes: envelope([scales, codes.map(() => 7)]), ...invalid },
  "a frame of another magic number": {
    bytes: envelope([zstd({ content: SCALES, magic: u32(0xfd2fb527) }), codes]),
    ...invalid,
  },
  "a frame that can be skipped": {
    bytes: envelope([[...u32(0x184d2a50), ...u32(scales.length - 8), ...scales.slice(8)], codes]),
    ...invalid,
  },
  "a frame that says 4 GiB": {
    bytes: envelope([scales, zstd({ content: 2 ** 32 - 1, runs: [CODES] })]),
    ...invalid,
  },
  "a frame that does not say how much": {
    bytes: envelope([scales, zstd({ content: CODES, descriptor: [0x00, 0x00] })]),
    ...invalid,
  },
  "a frame that wants a window of gigabytes": {
    bytes: envelope([scales, zstd({ content: CODES, descriptor: wide })]),
    ...invalid,
  },
  "a frame that wants a dictionary": {
    bytes: envelope([scales, zstd({ content: CODES, descriptor: [0xa3, 1, 0, 0, 0] })]),
    ...invalid,
  },
  "a frame that makes more than it says": {
    bytes: envelope([scales, zstd({ content: CODES, runs: [CODES, 100_000, 100_000] })]),
    ...invalidOrRight,
  },
  "a frame that makes less": {
    bytes: envelope([scales, zstd({ content: CODES, runs: [CODES - 1] })]),
    ...invalidOrRight,
  },
  "a frame that ends within a block": { bytes: envelope([scales, codes.slice(0, -1)]), ...invalid },
  "another payload than its hash is of": { record: { hash: 5n }, code: "CHUNK_CORRUPT", retryable: true },
  "the envelope of another codec": {
    record: { codec: 1, payloadBytes: 2 * ELEMENTS },
    code: "PROTOCOL",
  },
  "a fallback that is as long as the codec's payload": { record: { codec: 0 }, code: "PAYLOAD_INVALID" },
  "a lossless chunk of a dtype that it does not take": {
    record: { codec: 7, payloadBytes: ELEMENTS / 2 },
    manifest: { ...manifest, tensors: [["weight", "F4", [ELEMENTS], 1]] },
    code: "PROTOCOL",
  },
  "a length between those that the codec makes": {
    record: { codec: 901, packing: 0, payloadBytes: 5, packedBytes: 5 },
    bytes: new Uint8Array(5),
    manifest: { ...manifest, tensors: [["weight", "F32", [ELEMENTS], 2]] },
    code: "PAYLOAD_INVALID",
  },
};

const backends = {
  portable: new PortableBackend(registry),
  default: defaultBackend({ codecs: registry }),
};
const targets = ["model.safetensors", "model.twire"];

describe.each(Object.entries(backends))("with the %s backend", (_name, backend) => {
  /** Sends one chunk, and the end; gives what the receiver makes of it. */
  async function receive(
    to: string | Sink,
    record: ChunkRecord,
    bytes: Uint8Array,
    announced: object = manifest,
  ) {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(a);
    const { done } = receiveModel(b, { registry, backend, windowBytes: 65536, to });
    const running = (async () => {
      await peer.hello("send");
      await peer.say(FrameType.MANIFEST, JSON.stringify(announced));
      await peer.hears(FrameType.WANT);
      await peer.data([record], [bytes]);
      await peer.say(FrameType.END, encodeTotals({ digest: 1n, chunks: 1, sourceBytes: 32768, clamped: 0 }));
    })();
    const [result] = await Promise.allSettled([done]);
    await a.close(new Error("over"));
    await running;
    return result;
  }

  test("the truth goes through to the digest", async () => {
    const record = { ...base, packedBytes: good.length };
    for (const target of targets) {
      const result = await receive(join(await scratch(), target), record, good);
      expect(result).toMatchObject({ reason: { code: "DIGEST_MISMATCH" } });
    }
  });

  test.each(Object.entries(lies))("%s is refused, and nothing is left", async (_what, lie) => {
    const bytes = lie.bytes ?? good;
    const record = { ...base, packedBytes: bytes.length, ...lie.record };
    for (const target of targets) {
      const folder = await scratch();
      const result = await receive(join(folder, target), record, bytes, lie.manifest);
      const code = lie.code instanceof RegExp ? expect.stringMatching(lie.code) : lie.code;
      expect(result).toMatchObject({ reason: { code } });
      if (lie.retryable) {
        expect(result).toMatchObject({ reason: { retryable: true, tensor: "weight", chunk: 0 } });
      }
      expect(await readdir(folder)).toEqual([]);
    }
  });
});
