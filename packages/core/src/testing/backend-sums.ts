import { beforeAll, expect, it } from "vitest";
import type { AccumulateJob, CodecBackend, FiniteJob } from "../backend/backend.js";
import type { CodecSpec } from "../codec/codec.js";
import type { CodecRegistry } from "../codec/registry.js";
import { type DType, FLOAT_DTYPES } from "../dtype.js";
import { xxh64 } from "../hash.js";
import { segmentsOf, unpackPayload } from "../packing/envelope.js";
import { unpackOnly } from "../packing/packer.js";
import { firstDifferentElement } from "./equality.js";
import { expectRejection, expectSameElements, expectTrue } from "./expectations.js";
import { GuardedSums } from "./guarded-sums.js";
import { adversarial, EDGE_LENGTHS, ordinary, type Sample, shifted } from "./samples.js";
import { specVariants } from "./spec-variants.js";

/** Bits of float32 scales, and of halves of doubles, that nobody would send in good faith. */
const HOSTILE_WORDS = [0x7f800000, 0xff800000, 0x7fc00000, 0xff800001, 0x7f7fffff, 0xff7fffff, 1, 0x7fefffff];

/** Ordinary ones; those that round to float32; and some that take sums to the ends of their range. */
const WEIGHTS = [1, 0.1, -3, 1 / 3, 0, 2 ** -140, 2 ** 100, -1e30];

/** Sums of either kind. */
const OUTPUTS = ["F32", "F64"] as const;

/** Registers the tests that a backend decodes and adds as the contract says, bit for bit. */
export function sumTests(
  codecs: CodecRegistry,
  names: readonly string[],
  backendOf: () => CodecBackend,
): void {
  beforeAll(() => unpackOnly.load!());

  /** A payload through the reference's decoder and the contract's arithmetic, and through the backend. */
  async function compare(job: FiniteJob, where: string, offset: number, weight: number): Promise<void> {
    const { codec, dtype, elements, output } = job;
    const expected = new GuardedSums(output, elements, 0);
    expected.fill(elements);
    const given = new GuardedSums(output, elements, offset);
    given.sums.set(expected.sums);
    const values = new GuardedSums(output, elements, 0);
    const made = job.unpacked === undefined ? job.payload : payloadOf(job);
    codecs.get(codec.name).decode(codec, dtype, elements, made, output, values.bytes);
    const finite = expected.add(values, weight);
    const added = await backendOf().accumulate({ ...job, weight, accumulator: given.sums });
    expectTrue(added.finite === finite, `${finite ? "" : "not "}finite, added: ${where}`);
    given.expectGuarded(where);
    if (finite) expectSameElements(output, given.bytes, expected.bytes, where);
    const seen = await backendOf().finite(job);
    expectTrue(seen.finite === finite, `${finite ? "" : "not "}finite, looked through: ${where}`);
  }

  /** One chunk, added to sums of either kind, with and without its hash. */
  async function compareChunk(spec: CodecSpec, dtype: DType, sample: Sample, turn: number): Promise<void> {
    const payload = encoded(spec, dtype, sample.elements, sample.bytes);
    if (payload === undefined) return;
    for (const output of OUTPUTS) {
      const where = `${JSON.stringify(spec)} of ${dtype}, ${sample.label}, ${sample.elements} elements, to ${output}`;
      const hash = turn % 3 === 0 ? undefined : xxh64(payload);
      const job = {
        codec: spec,
        dtype,
        elements: sample.elements,
        payload: shifted(payload, turn % 5),
        hash,
        output,
      };
      await compare(job, where, turn % 4, WEIGHTS[turn % WEIGHTS.length]!);
    }
  }

  function encoded(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    source: Uint8Array,
  ): Uint8Array | undefined {
    const codec = codecs.get(spec.name);
    const room = new Uint8Array(codec.payloadBytes(spec, dtype, elements));
    const { bytes, declined } = codec.encode(spec, dtype, elements, source, room);
    return declined ? undefined : room.subarray(0, bytes);
  }

  for (const name of names) {
    for (const dtype of FLOAT_DTYPES.filter((each) => codecs.get(name).supports(each))) {
      it(`${name} of ${dtype}: decoded and added, the same bits`, async () => {
        let turn = 0;
        for (const spec of specVariants(codecs, name)) {
          for (const elements of EDGE_LENGTHS) {
            const sample = { label: "ordinary", elements, bytes: ordinary(dtype, elements, elements) };
            await compareChunk(spec, dtype, sample, turn++);
          }
          for (const sample of adversarial(dtype)) await compareChunk(spec, dtype, sample, turn++);
        }
      });
    }

    it(`${name}: finds what hostile scales decode to`, async () => {
      for (const spec of specVariants(codecs, name)) {
        const elements = 2100;
        const payload = encoded(spec, "F32", elements, ordinary("F32", elements, 9));
        if (payload === undefined) continue;
        const scales = codecs.get(name).scaleBytes(spec, "F32", elements);
        // Of codecs without scales, the values themselves.
        const words = Math.floor((scales === 0 ? payload.length : scales) / 4);
        for (const at of [0, 1, Math.floor(words / 2), words - 1]) {
          for (const word of HOSTILE_WORDS) {
            const hostile = payload.slice();
            new DataView(hostile.buffer).setUint32(4 * at, word, true);
            for (const output of OUTPUTS) {
              const where = `${JSON.stringify(spec)}, word ${at} is ${word.toString(16)}, to ${output}`;
              const job: FiniteJob = {
                codec: spec,
                dtype: "F32",
                elements,
                payload: hostile,
                hash: xxh64(hostile),
                output,
              };
              if (isRefused(job)) {
                const sums = new Float64Array(elements);
                await expectRejection("PAYLOAD_INVALID", backendOf().finite(job));
                await expectRejection(
                  "PAYLOAD_INVALID",
                  backendOf().accumulate({ ...job, weight: 1, accumulator: sums }),
                );
              } else {
                await compare(job, where, 1, 0.25);
              }
            }
          }
        }
      }
    });

    it(`${name}: unpacked, decoded and added`, async () => {
      const codec = codecs.resolve(name);
      const elements = 5000;
      const source = ordinary("F32", elements, 21).fill(0, 4000, 12_000);
      const target = new Uint8Array(codecs.get(name).payloadBytes(codec, "F32", elements));
      const packed = new Uint8Array(target.length);
      const job = { codec, dtype: "F32", elements, source, target, packed } as const;
      const { packedBytes = 0, hash, bytes } = await backendOf().encode(job);
      if (packedBytes === 0) return;
      const payload = packed.subarray(0, packedBytes);
      for (const output of OUTPUTS) {
        const travelled = {
          codec,
          dtype: "F32",
          elements,
          payload,
          unpacked: new Uint8Array(bytes),
          output,
        } as const;
        await compare({ ...travelled, hash }, `${name}, packed`, 0, 0.5);
        await compare(travelled, `${name}, packed, without a hash`, 0, 0.5);
        await expectRejection("CHUNK_CORRUPT", backendOf().finite({ ...travelled, hash: hash ^ 1n }));
      }
    });
  }

  function isRefused({ codec, dtype, elements, payload, output }: FiniteJob): boolean {
    try {
      codecs.get(codec.name).decode(codec, dtype, elements, payload, output, new Uint8Array(8 * elements));
      return false;
    } catch {
      return true;
    }
  }

  function sumJob(codec: string, elements: number): AccumulateJob {
    const spec = codecs.resolve(codec);
    const payload = encoded(spec, "F32", elements, ordinary("F32", elements, 3))!;
    const accumulator = new Float32Array(elements).fill(7);
    return { codec: spec, dtype: "F32", elements, payload, hash: xxh64(payload), weight: 1, accumulator };
  }

  it("adds no payload that does not match its hash, or has another length", async () => {
    for (const name of names) {
      const job = sumJob(name, 1000);
      const flipped = job.payload.slice();
      flipped[flipped.length - 1]! ^= 0x10;
      const seen = { ...job, output: "F32" } as const;
      await expectRejection("CHUNK_CORRUPT", backendOf().accumulate({ ...job, payload: flipped }));
      await expectRejection("CHUNK_CORRUPT", backendOf().finite({ ...seen, payload: flipped }));
      await expectRejection("CHUNK_CORRUPT", backendOf().accumulate({ ...job, hash: job.hash! ^ 1n }));
      const short = job.payload.subarray(0, job.payload.length - 1);
      const accumulator = new Float32Array(1000).fill(7);
      for (const hash of [xxh64(short), undefined]) {
        const cut = { payload: short, hash };
        await expectRejection("PAYLOAD_INVALID", backendOf().accumulate({ ...job, ...cut, accumulator }));
        await expectRejection("PAYLOAD_INVALID", backendOf().finite({ ...seen, ...cut }));
      }
      expect(accumulator.every((sum) => sum === 7)).toBe(true);
    }
  });

  it("refuses to sum what cannot be summed, and leaves the sums alone", async () => {
    const job = sumJob("float16", 100);
    const refused = (change: object) =>
      expectRejection("INVALID_ARGUMENT", backendOf().accumulate({ ...job, ...change }));
    for (const weight of [Number.NaN, Number.POSITIVE_INFINITY, 1e39, "1"]) await refused({ weight });
    for (const accumulator of [
      new Float32Array(99),
      new Float64Array(99),
      new Uint8Array(400),
      [],
      undefined,
    ]) {
      await refused({ accumulator });
    }
    await refused({ elements: -1 });
    await refused({ elements: 101 });
    const whole = { codec: codecs.resolve("none"), payload: new Uint8Array(400), hash: undefined };
    await refused({ ...whole, dtype: "I32" });
    expect(job.accumulator.every((sum) => sum === 7)).toBe(true);
    const absent = { ...job, codec: { name: "absent" } };
    await expectRejection("CODEC_UNSUPPORTED", backendOf().accumulate(absent));
    await expectRejection("CODEC_UNSUPPORTED", backendOf().finite({ ...absent, output: "F32" }));
    // A double takes what a float32 does not.
    expect(
      await backendOf().accumulate({ ...job, weight: 1e39, accumulator: new Float64Array(100) }),
    ).toEqual({
      finite: true,
    });
    const aborted = { ...job, signal: AbortSignal.abort() };
    await expectRejection("ABORTED", backendOf().accumulate(aborted));
    await expectRejection("ABORTED", backendOf().finite({ ...aborted, output: "F32" }));
    expect(job.accumulator.every((sum) => sum === 7)).toBe(true);
  });

  it("takes whole numbers for finite, and verifies them all the same", async () => {
    for (const dtype of ["I32", "U8", "BOOL"] as const) {
      const payload = ordinary("U8", 400, 4);
      const elements = dtype === "I32" ? 100 : 400;
      const job = { codec: codecs.resolve("none"), dtype, elements, payload, output: "F32" } as const;
      expect(await backendOf().finite({ ...job, hash: xxh64(payload) })).toEqual({ finite: true });
      await expectRejection("CHUNK_CORRUPT", backendOf().finite({ ...job, hash: 1n }));
    }
  });

  it("adds to many sums at once, and keeps them apart", async () => {
    const jobs = Array.from({ length: 24 }, (_, i) => sumJob(names[i % names.length]!, 1 + i * 9001));
    await Promise.all(jobs.map((job) => backendOf().accumulate(job)));
    for (const { codec, dtype, elements, payload, accumulator } of jobs) {
      const values = new Float32Array(elements);
      const bytes = new Uint8Array(values.buffer);
      codecs.get(codec.name).decode(codec, dtype, elements, payload, "F32", bytes);
      const expected = new Uint8Array(values.map((value) => 7 + value).buffer);
      const given = new Uint8Array(accumulator.buffer);
      expect(firstDifferentElement("F32", given, expected), codec.name).toBe(-1);
    }
  });

  function payloadOf({ codec, dtype, elements, payload, unpacked }: FiniteJob): Uint8Array {
    const made = new Uint8Array(unpacked!.length);
    const reference = codecs.get(codec.name);
    unpackPayload(payload, segmentsOf(reference, codec, dtype, elements, made.length), unpackOnly, made);
    return made;
  }
}
