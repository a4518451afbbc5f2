import { beforeAll, expect, it } from "vitest";
import type { CodecBackend } from "../backend/backend.js";
import type { CodecSpec } from "../codec/codec.js";
import type { CodecRegistry } from "../codec/registry.js";
import { byteLength, type DType, FLOAT_DTYPES, isFloatDType } from "../dtype.js";
import { xxh64 } from "../hash.js";
import { segmentsOf, unpackPayload } from "../packing/envelope.js";
import { unpackOnly } from "../packing/packer.js";
import { firstDifference } from "./equality.js";
import {
  expectFields,
  expectRejection,
  expectSame,
  expectSameElements,
  GuardedBytes,
} from "./expectations.js";
import { adversarial, ordinary, pseudoRandom } from "./samples.js";
import { specVariants } from "./spec-variants.js";
import { compressedBlock, concatenated, envelopeOf, rawBlock, runBlock, zstdFrame } from "./zstd-frames.js";

/** What the first part of these envelopes holds, and no buffer does of itself. */
const FILL = 7;

/** What a decoder may say of an envelope that is none. */
const REFUSALS = ["PAYLOAD_INVALID", "CHUNK_CORRUPT"];

/** Registers the tests of jobs that pack and unpack. */
export function packingTests(
  codecs: CodecRegistry,
  names: readonly string[],
  packs: boolean,
  backendOf: () => CodecBackend,
): void {
  beforeAll(() => unpackOnly.load!());

  /** One chunk, packed and unpacked in every way; returns the part of its bytes that was left. */
  async function roundTrip(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    source: Uint8Array,
  ): Promise<number> {
    const backend = backendOf();
    const codec = codecs.get(spec.name);
    const where = `${JSON.stringify(spec)} of ${dtype}, ${elements} elements`;
    const room = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    const encoded = codec.encode(spec, dtype, elements, source, room);
    const payload = room.subarray(0, encoded.bytes);
    const segments = segmentsOf(codec, spec, dtype, elements, encoded.bytes);

    const target = new GuardedBytes(room.length);
    const packed = new GuardedBytes(room.length, 3);
    const job = { codec: spec, dtype, elements, source, target: target.view, packed: packed.view };
    const { packedBytes = 0, ...made } = await backend.encode(job);
    expectFields(made, { ...encoded, hash: xxh64(payload) }, where);
    expectSame(target.view.subarray(0, encoded.bytes), payload, where);
    packed.expectGuarded(`the envelope: ${where}`);
    // A chunk that its codec does not carry travels exactly: nobody wants it packed.
    if (encoded.nonFinite > 0 || encoded.declined) expect(packedBytes, where).toBe(0);
    if (packedBytes === 0) return 1;
    expect(packedBytes, where).toBeLessThan(encoded.bytes);
    const envelope = packed.view.slice(0, packedBytes);

    // Anyone opens it.
    const opened = new Uint8Array(encoded.bytes);
    unpackPayload(envelope, segments, unpackOnly, opened);
    expectSame(opened, payload, `opened elsewhere: ${where}`);
    const whole = new GuardedBytes(encoded.bytes, 1);
    expect(await backend.unpack({ packed: envelope, segments, payload: whole.view })).toBe(made.hash);
    expectSame(whole.view, payload, `unpacked: ${where}`);
    whole.expectGuarded(`the payload: ${where}`);

    for (const output of isFloatDType(dtype) ? FLOAT_DTYPES : [dtype]) {
      const expected = new Uint8Array(byteLength(output, elements));
      codec.decode(spec, dtype, elements, payload, output, expected);
      const place = new GuardedBytes(expected.length);
      const unpacked = new GuardedBytes(encoded.bytes);
      const hash = elements === 700 ? undefined : made.hash;
      const back = { codec: spec, dtype, elements, payload: envelope, hash, output };
      await backend.decode({ ...back, unpacked: unpacked.view, target: place.view });
      expectSameElements(output, place.view, expected, `to ${output}: ${where}`);
      place.expectGuarded(`the target: ${where}`);
      unpacked.expectGuarded(`the room for the payload: ${where}`);
    }
    return packedBytes / encoded.bytes;
  }

  for (const name of names) {
    it(`${name}: packed and unpacked, the same bytes`, async () => {
      for (const spec of specVariants(codecs, name)) {
        for (const dtype of FLOAT_DTYPES) {
          if (!codecs.get(name).supports(dtype)) continue;
          for (const elements of [0, 1, 33, 700, 20_000]) {
            await roundTrip(spec, dtype, elements, ordinary(dtype, elements, elements));
            // What packs best.
            await roundTrip(spec, dtype, elements, new Uint8Array(byteLength(dtype, elements)));
          }
          const hostile = adversarial(dtype).at(-1)!;
          await roundTrip(spec, dtype, hostile.elements, hostile.bytes);
        }
      }
    });
  }

  it.runIf(packs && names.includes("lossless"))("lossless: what is there to be saved", async () => {
    for (const [dtype, most] of [
      ["BF16", 0.675],
      ["F32", 0.84],
      ["F64", 0.93],
    ] as const) {
      const elements = 1 << 17;
      const part = await roundTrip({ name: "lossless" }, dtype, elements, ordinary(dtype, elements, 1));
      expect(part, dtype).toBeLessThan(most);
    }
  });

  it("packs a payload that is there already", async () => {
    const payload = concatenated([ordinary("U8", 5000, 2), new Uint8Array(3000), ordinary("BF16", 6000, 3)]);
    for (const segments of [[payload.length], [5000, 3000, 12_000], [1, payload.length - 1]]) {
      const packed = new GuardedBytes(payload.length);
      const { hash, packedBytes = 0 } = await backendOf().pack({ payload, segments, packed: packed.view });
      expect(hash).toBe(xxh64(payload));
      packed.expectGuarded("the envelope");
      if (packs) expect(packedBytes).toBeGreaterThan(0);
      if (packedBytes === 0) continue;
      const opened = new Uint8Array(payload.length);
      unpackPayload(packed.view.slice(0, packedBytes), segments, unpackOnly, opened);
      expect(firstDifference(opened, payload)).toBe(-1);
    }
    const noise = ordinary("U8", 3000, 4);
    const { packedBytes = 0 } = await backendOf().pack({
      payload: noise,
      segments: [3000],
      packed: noise.slice(),
    });
    expect(packedBytes).toBe(0);
  });

  it("opens what others pack", async () => {
    const noise = ordinary("U8", 900, 5);
    const same = new Uint8Array(1000).fill(FILL);
    const parts = [
      zstdFrame([runBlock(FILL, 1000)], 1000),
      zstdFrame([runBlock(FILL, 1000)], 1000, { window: 0x08 }),
      zstdFrame([runBlock(FILL, 300, false), rawBlock(new Uint8Array(), false), runBlock(FILL, 700)], 1000),
    ];
    for (const part of parts) {
      const payload = new GuardedBytes(1900);
      const job = { packed: envelopeOf([part, noise]), segments: [1000, 900], payload: payload.view };
      expect(await backendOf().unpack(job)).toBe(xxh64(concatenated([same, noise])));
      expect(firstDifference(payload.view, concatenated([same, noise]))).toBe(-1);
      payload.expectGuarded("the payload");
    }
  });

  /** Decodes and unpacks an envelope of 1000 equal bytes and 900 ones that is not what it should be. */
  async function refuses(packed: Uint8Array, what: string): Promise<void> {
    const target = new GuardedBytes(1900);
    const unpacked = new GuardedBytes(1900);
    const hash = xxh64(concatenated([new Uint8Array(1000).fill(FILL), new Uint8Array(900).fill(1)]));
    // What does not show in the frames shows in the hash.
    const answer = Promise.resolve(
      backendOf().unpack({ packed, segments: [1000, 900], payload: unpacked.view }),
    );
    const outcome = await answer.then(
      (found) => (found === hash ? what : "CHUNK_CORRUPT"),
      (error) => error.code,
    );
    expect(REFUSALS).toContain(outcome);
    unpacked.expectGuarded(`the payload: ${what}`);
    for (const [name, dtype, elements] of [
      ["none", "U8", 1900],
      ["lossless", "BF16", 950],
    ] as const) {
      if (!names.includes(name)) continue;
      const job = { codec: { name }, dtype, elements, payload: packed, hash, output: dtype };
      await expectRejection(
        REFUSALS,
        backendOf().decode({ ...job, unpacked: unpacked.view, target: target.view }),
      );
      target.expectGuarded(`the target: ${what}`);
      unpacked.expectGuarded(`the room for the payload: ${what}`);
    }
  }

  it("refuses what is no envelope, and writes nowhere else", async () => {
    const same = zstdFrame([runBlock(FILL, 1000)], 1000);
    const ones = zstdFrame([runBlock(1, 900)], 900);
    const sound = envelopeOf([same, ones]);
    for (let length = 0; length < sound.length; length++) {
      await refuses(sound.subarray(0, length), `the first ${length} bytes`);
    }
    await refuses(concatenated([sound, Uint8Array.of(0)]), "a byte more");
    for (const lengths of [
      [0, ones.length],
      [same.length - 1, ones.length + 1],
      [same.length + ones.length, 0],
      [0xffffffff, ones.length],
      [same.length, 0x80000000],
      [1001, ones.length],
    ]) {
      await refuses(envelopeOf([same, ones], lengths), `lengths ${lengths}`);
    }
    const noise = ordinary("U8", 64, 6);
    const frames: readonly [string, Uint8Array][] = [
      ["no frame", noise],
      ["another magic number", zstdFrame([runBlock(FILL, 1000)], 1000, { magic: 0x184d2a50 })],
      ["a longer content", zstdFrame([runBlock(FILL, 1001)], 1001)],
      ["a content as long as memory", zstdFrame([runBlock(FILL, 1000)], 0xffffffff)],
      ["more than it says", zstdFrame([runBlock(FILL, 2_000_000)], 1000)],
      [
        "far more than it says",
        zstdFrame(
          [...Array.from({ length: 100 }, () => runBlock(FILL, 131072, false)), runBlock(FILL, 1)],
          1000,
        ),
      ],
      ["less than it says", zstdFrame([runBlock(FILL, 999)], 1000)],
      ["no last block", zstdFrame([runBlock(FILL, 1000, false)], 1000)],
      ["a dictionary", zstdFrame([runBlock(FILL, 1000)], 1000, { flags: 1 })],
      ["a reserved bit", zstdFrame([runBlock(FILL, 1000)], 1000, { flags: 8 })],
      ["a window of 4 KiB", zstdFrame([runBlock(FILL, 1000)], 1000, { window: 0x10 })],
      ["a window of terabytes", zstdFrame([runBlock(FILL, 1000)], 1000, { window: 0xff })],
      [
        "two frames",
        concatenated([zstdFrame([runBlock(FILL, 1000)], 1000), zstdFrame([runBlock(FILL, 1)], 1)]),
      ],
      ["bytes behind it", concatenated([zstdFrame([runBlock(FILL, 1000)], 1000), Uint8Array.of(1, 2, 3)])],
      ["noise for a block", zstdFrame([compressedBlock(noise)], 1000)],
      ["a block of nothing", zstdFrame([compressedBlock(new Uint8Array())], 1000)],
      [
        "a hundred thousand matches of 64 KiB in nine bytes",
        zstdFrame([compressedBlock(Uint8Array.of(0, 0xff, 0xff, 0xff, 0x54, 0, 0, 52, 1))], 1000),
      ],
      ["a block of no type", zstdFrame([Uint8Array.of(0x0f, 0x1f, 0)], 1000)],
    ];
    for (const [what, frame] of frames) await refuses(envelopeOf([frame, ones]), what);
    const random = pseudoRandom(9);
    for (let round = 0; round < 300; round++) {
      const bytes = Uint8Array.from({ length: 1 + random() * 200 }, () => random() * 256);
      await refuses(envelopeOf([zstdFrame([compressedBlock(bytes)], 1000), ones]), `noise ${round}`);
    }
  });

  it("refuses a packed payload with any bit turned over, or decodes what it was", async () => {
    const elements = 600;
    const source = ordinary("BF16", elements, 8);
    const spec = { name: names.includes("lossless") ? "lossless" : "none" };
    const job = { codec: spec, dtype: "BF16", elements, source } as const;
    const packed = new Uint8Array(source.length);
    const target = new Uint8Array(source.length);
    const { hash, packedBytes = 0 } = await backendOf().encode({ ...job, target, packed });
    const envelope = packed.subarray(0, packedBytes);
    for (let bit = 0; bit < 8 * envelope.length; bit++) {
      const flipped = envelope.slice();
      flipped[bit >>> 3]! ^= 1 << (bit & 7);
      const place = new GuardedBytes(source.length);
      const unpacked = new GuardedBytes(source.length);
      const back = { codec: spec, dtype: "BF16", elements, payload: flipped, hash, output: "BF16" } as const;
      const outcome = await Promise.resolve(
        backendOf().decode({ ...back, unpacked: unpacked.view, target: place.view }),
      ).then(
        () => (firstDifference(place.view, source) < 0 ? "PAYLOAD_INVALID" : "other bytes"),
        (error) => error.code,
      );
      expect(REFUSALS, `bit ${bit}`).toContain(outcome);
      place.expectGuarded(`the target, bit ${bit}`);
      unpacked.expectGuarded(`the room for the payload, bit ${bit}`);
    }
  });
}
