import { it } from "vitest";
import type { CodecBackend } from "../backend/backend.js";
import type { ChunkPosition, CodecSpec } from "../codec/codec.js";
import type { CodecRegistry } from "../codec/registry.js";
import { byteLength, type DType, FLOAT_DTYPES, isFloatDType } from "../dtype.js";
import { xxh64 } from "../hash.js";
import { expectFields, expectSame, expectSameElements, GuardedBytes } from "./expectations.js";
import { adversarial, EDGE_LENGTHS, ordinary, type Sample, shifted } from "./samples.js";
import { specVariants } from "./spec-variants.js";

/** Dtypes that no codec computes with: only those that keep every bit take them. */
const EXACT_DTYPES: readonly DType[] = ["U8", "I16", "U32", "I64", "BOOL", "F8_E4M3", "C64", "F4"];

/** Where chunks lie: within four elements, and across 2^32 groups of four. */
const POSITIONS: readonly ChunkPosition[] = [
  { tensor: 0xfedcba9876543210n, first: 0 },
  { tensor: 0x00000000ffffffffn, first: 4096 * 3 + 1 },
  { tensor: 0xffffffff00000000n, first: 2 ** 34 - 66 },
];

/** Registers the tests that a backend gives the reference codecs' bytes, whatever the chunk. */
export function parityTests(
  codecs: CodecRegistry,
  names: readonly string[],
  backendOf: () => CodecBackend,
): void {
  /** One chunk through the reference and the backend; every byte and count must agree. */
  async function compare(
    spec: CodecSpec,
    dtype: DType,
    sample: Sample,
    offset: number,
    at?: ChunkPosition,
  ): Promise<void> {
    const codec = codecs.get(spec.name);
    const { elements } = sample;
    const where = `${JSON.stringify(spec)} of ${dtype}, ${sample.label}, ${elements} elements, ${offset} off`;
    const room = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    const encoded = codec.encode(spec, dtype, elements, sample.bytes, room, at);
    const payload = room.subarray(0, encoded.bytes);

    const source = shifted(sample.bytes, offset);
    const target = new GuardedBytes(room.length, offset);
    const job = { codec: spec, dtype, elements, source, target: target.view, at };
    const made = await backendOf().encode(job);
    expectSame(target.view.subarray(0, encoded.bytes), payload, `payload: ${where}`);
    expectFields(made, { ...encoded, hash: xxh64(payload) }, where);
    target.expectGuarded(`the payload: ${where}`, encoded.bytes);
    expectSame(source, sample.bytes, `source: ${where}`);
    if (encoded.declined) return;

    for (const output of isFloatDType(dtype) ? FLOAT_DTYPES : [dtype]) {
      const expected = new Uint8Array(byteLength(output, elements));
      codec.decode(spec, dtype, elements, payload, output, expected);
      const place = new GuardedBytes(expected.length, offset);
      // Where nothing is verified, the same comes of it.
      const hash = elements % 3 === 1 ? undefined : made.hash;
      const back = { codec: spec, dtype, elements, hash, output, target: place.view };
      await backendOf().decode({ ...back, payload: shifted(payload, offset) });
      expectSameElements(output, place.view, expected, `to ${output}: ${where}`);
      place.expectGuarded(`the target: ${where}`);
    }
  }

  for (const codec of names) {
    for (const dtype of FLOAT_DTYPES) {
      if (!codecs.get(codec).supports(dtype)) continue;

      it(`${codec} of ${dtype}: the reference's bytes at every edge length and alignment`, async () => {
        for (const spec of specVariants(codecs, codec)) {
          for (const [i, elements] of EDGE_LENGTHS.entries()) {
            const sample = { label: "ordinary", elements, bytes: ordinary(dtype, elements, elements) };
            await compare(spec, dtype, sample, elements % 5, POSITIONS[i % POSITIONS.length]);
            await compare(spec, dtype, sample, 64);
          }
        }
      });

      it(`${codec} of ${dtype}: the reference's bytes on hostile values`, async () => {
        for (const spec of specVariants(codecs, codec)) {
          for (const sample of adversarial(dtype)) {
            await compare(spec, dtype, sample, 0);
            // Without the last element a block, and with four bits a byte, is cut short.
            const elements = sample.elements - 1;
            const bytes = sample.bytes.subarray(0, byteLength(dtype, elements));
            await compare(spec, dtype, { ...sample, elements, bytes }, 1, POSITIONS[2]);
          }
        }
      });
    }

    const exact = EXACT_DTYPES.filter((dtype) => codecs.get(codec).supports(dtype));
    if (exact.length === 0) continue;
    it(`${codec}: every other dtype as it is`, async () => {
      for (const dtype of exact) {
        for (const elements of [0, 2, 30, 64, 66, 4098]) {
          const sample = { label: "any bytes", elements, bytes: ordinary(dtype, elements, elements) };
          await compare(codecs.resolve(codec), dtype, sample, 3);
        }
      }
    });
  }
}
