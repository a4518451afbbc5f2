import { beforeAll, describe, expect, it } from "vitest";
import type { CodecBackend, DecodeJob, EncodeJob } from "../backend/backend.js";
import type { CodecSpec } from "../codec/codec.js";
import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { byteLength, type DType, FLOAT_DTYPES } from "../dtype.js";
import { xxh64 } from "../hash.js";
import { firstDifference, firstDifferentElement } from "./equality.js";
import { adversarial, EDGE_LENGTHS, ordinary, type Sample, shifted } from "./samples.js";

export interface BackendSuiteOptions {
  /** The reference codecs; the built-in ones by default. */
  readonly codecs?: CodecRegistry;
  /** Names of the codecs to test; all of the registry's by default. */
  readonly names?: readonly string[];
}

const UNTOUCHED = 0xa5;
/** Dtypes that no codec computes with: only `none` takes them. */
const EXACT_DTYPES: readonly DType[] = ["I8", "I64", "BOOL", "F8_E4M3", "C64", "F4"];

/** Registers the tests that any backend must pass: above all, that it gives the reference codecs' bytes. */
export function backendSuite(
  name: string,
  makeBackend: () => CodecBackend | Promise<CodecBackend>,
  options: BackendSuiteOptions = {},
): void {
  const codecs = options.codecs ?? defaultCodecs;
  const names = options.names ?? codecs.names();
  let backend: CodecBackend;

  /** The default spec, and those with the smallest and the largest block where the codec has blocks. */
  function specsOf(codec: string): CodecSpec[] {
    const spec = codecs.resolve(codec);
    if (spec.block === undefined) return [spec];
    const others = [32, 64, 128, 1024, 4096].filter((block) => {
      try {
        return codecs.resolve({ ...spec, block }).block !== spec.block;
      } catch {
        return false;
      }
    });
    return [spec, ...others.map((block) => ({ ...spec, block }))];
  }

  /** One chunk through the reference and the backend; every byte and count must agree. */
  async function compare(spec: CodecSpec, dtype: DType, sample: Sample, offset: number): Promise<void> {
    const codec = codecs.get(spec.name);
    const { elements } = sample;
    const where = `${JSON.stringify(spec)} of ${dtype}, ${sample.label}, ${elements} elements, ${offset} off`;
    const size = codec.payloadBytes(spec, dtype, elements);
    const payload = new Uint8Array(size);
    const encoded = codec.encode(spec, dtype, elements, sample.bytes, payload);

    const source = shifted(sample.bytes, offset);
    const room = new Uint8Array(offset + size + 64).fill(UNTOUCHED);
    const made = await backend.encode({
      codec: spec,
      dtype,
      elements,
      source,
      target: room.subarray(offset),
    });
    const given = room.subarray(offset, offset + size);
    expect(firstDifference(given, payload), `payload: ${where}`).toBe(-1);
    expect(made, where).toEqual({ ...encoded, hash: xxh64(payload) });
    expectUntouched(room.subarray(offset + size), `beyond the payload: ${where}`);
    expect(firstDifference(source, sample.bytes), `source: ${where}`).toBe(-1);

    const outputs = (FLOAT_DTYPES as readonly DType[]).includes(dtype) ? FLOAT_DTYPES : [dtype];
    for (const output of outputs) {
      const expected = new Uint8Array(byteLength(output, elements));
      codec.decode(spec, dtype, elements, payload, output, expected);
      const place = new Uint8Array(offset + expected.length + 64).fill(UNTOUCHED);
      await backend.decode({
        codec: spec,
        dtype,
        elements,
        payload: shifted(payload, offset),
        hash: made.hash,
        output,
        target: place.subarray(offset),
      });
      const back = place.subarray(offset, offset + expected.length);
      expect(firstDifferentElement(output, back, expected), `to ${output}: ${where}`).toBe(-1);
      expectUntouched(place.subarray(offset + expected.length), `beyond the target: ${where}`);
    }
  }

  function encodeJob(codec: string, dtype: DType, elements: number, seed: number): EncodeJob {
    const spec = codecs.resolve(codec);
    const target = new Uint8Array(codecs.get(codec).payloadBytes(spec, dtype, elements)).fill(UNTOUCHED);
    return { codec: spec, dtype, elements, source: ordinary(dtype, elements, seed), target };
  }

  async function decodeJob(codec: string, dtype: DType, elements: number): Promise<DecodeJob> {
    const { target: payload, ...job } = encodeJob(codec, dtype, elements, 17);
    const { hash } = await backend.encode({ ...job, target: payload });
    const target = new Uint8Array(byteLength(dtype, elements)).fill(UNTOUCHED);
    return { codec: job.codec, dtype, elements, payload, hash, output: dtype, target };
  }

  describe(`backend ${name}`, () => {
    beforeAll(async () => {
      backend = await makeBackend();
    });

    it("has a name", () => {
      expect(backend.name).not.toBe("");
    });

    for (const codec of names) {
      for (const dtype of FLOAT_DTYPES) {
        if (!codecs.get(codec).supports(dtype)) continue;

        it(`${codec} of ${dtype}: the reference's bytes at every edge length and alignment`, async () => {
          for (const spec of specsOf(codec)) {
            for (const elements of EDGE_LENGTHS) {
              const sample = { label: "ordinary", elements, bytes: ordinary(dtype, elements, elements) };
              await compare(spec, dtype, sample, elements % 5);
              await compare(spec, dtype, sample, 64);
            }
          }
        });

        it(`${codec} of ${dtype}: the reference's bytes on hostile values`, async () => {
          for (const spec of specsOf(codec)) {
            for (const sample of adversarial(dtype)) {
              await compare(spec, dtype, sample, 0);
              // Without the last element a block, and with four bits a byte, is cut short.
              const elements = sample.elements - 1;
              const bytes = sample.bytes.subarray(0, byteLength(dtype, elements));
              await compare(spec, dtype, { ...sample, elements, bytes }, 1);
            }
          }
        });
      }
    }

    it("carries every other dtype as it is", async () => {
      for (const dtype of EXACT_DTYPES) {
        for (const elements of [0, 2, 64, 4098]) {
          const sample = { label: "any bytes", elements, bytes: ordinary(dtype, elements, elements) };
          await compare({ name: "none" }, dtype, sample, 3);
        }
      }
    });

    it("hashes with xxh64", async () => {
      expect(await backend.hash(new Uint8Array())).toBe(0xef46db3751d8e999n);
      const bytes = ordinary("U8", 200_003, 1);
      for (const length of [1, 3, 4, 7, 8, 31, 32, 33, 63, 100, 65535, 65536, 65537, 200_000]) {
        for (const begin of [0, 1, 3]) {
          const part = bytes.subarray(begin, begin + length);
          expect(await backend.hash(part), `${length} bytes from ${begin}`).toBe(xxh64(part));
        }
      }
    });

    it("refuses a payload that does not match its hash", async () => {
      for (const codec of names) {
        const job = await decodeJob(codec, "F32", 1000);
        const flipped = job.payload.slice();
        flipped[flipped.length - 1]! ^= 0x10;
        await expectCode("CHUNK_CORRUPT", backend.decode({ ...job, payload: flipped }));
        await expectCode("CHUNK_CORRUPT", backend.decode({ ...job, hash: job.hash ^ 1n }));
        await expectCode("CHUNK_CORRUPT", backend.decode({ ...job, hash: job.hash ^ (1n << 63n) }));
      }
    });

    it("leaves the target alone where the payload has another length", async () => {
      for (const codec of names) {
        const job = await decodeJob(codec, "F32", 1000);
        const payload = job.payload.subarray(0, job.payload.length - 1);
        await expectCode("PAYLOAD_INVALID", backend.decode({ ...job, payload, hash: xxh64(payload) }));
        expectUntouched(job.target, codec);
      }
    });

    it("rejects, and never throws, where an argument cannot be used", async () => {
      const job = encodeJob("float16", "F32", 100, 2);
      const short = new Uint8Array(199);
      await expectCode("INVALID_ARGUMENT", backend.encode({ ...job, target: short }));
      await expectCode("INVALID_ARGUMENT", backend.encode({ ...job, source: short }));
      await expectCode("INVALID_ARGUMENT", backend.encode({ ...job, dtype: "I32" }));
      await expectCode("INVALID_ARGUMENT", backend.encode({ ...job, elements: -1 }));
      await expectCode("CODEC_UNSUPPORTED", backend.encode({ ...job, codec: { name: "absent" } }));
      const back = await decodeJob("float16", "F32", 100);
      await expectCode("INVALID_ARGUMENT", backend.decode({ ...back, target: short }));
      await expectCode("CODEC_UNSUPPORTED", backend.decode({ ...back, codec: { name: "absent" } }));
    });

    it("does nothing for a signal that is aborted already", async () => {
      const signal = AbortSignal.abort(new Error("changed my mind"));
      const job = encodeJob("bfloat16", "F32", 1000, 3);
      await expectCode("ABORTED", backend.encode({ ...job, signal }));
      expectUntouched(job.target, "encode");
      const back = await decodeJob("bfloat16", "F32", 1000);
      await expectCode("ABORTED", backend.decode({ ...back, signal }));
      expectUntouched(back.target, "decode");
      await expectCode("ABORTED", backend.hash(new Uint8Array(10), signal));
    });

    it("drops queued jobs when their signal aborts, and no others", async () => {
      const abort = new AbortController();
      const jobs = Array.from({ length: 32 }, (_, i) => ({
        // Large enough to queue in any backend.
        ...encodeJob("normfloat4", "F32", 1 << 17, i),
        signal: i % 4 === 3 ? undefined : abort.signal,
      }));
      const settled = Promise.allSettled(
        jobs.map((job) =>
          Promise.resolve(backend.encode(job)).finally(() => {
            // Its buffers may not be in use from now on: what is written to them stays.
            job.target.fill(UNTOUCHED);
          }),
        ),
      );
      abort.abort();
      const results = await settled;
      results.forEach((result, i) => {
        if (result.status === "fulfilled") return;
        expect(jobs[i]!.signal, `job ${i} has no signal`).toBe(abort.signal);
        expect(result.reason).toMatchObject({ code: "ABORTED" });
      });
      expect(results.some((result) => result.status === "rejected")).toBe(true);
      await backend.hash(new Uint8Array(1 << 20));
      jobs.forEach(({ target }, i) => {
        expectUntouched(target, `job ${i}`);
      });
    });

    it("keeps many jobs at once apart", async () => {
      const jobs = Array.from({ length: 96 }, (_, i) =>
        encodeJob(names[i % names.length]!, FLOAT_DTYPES[i % 4]!, 1 + i * 137, i),
      );
      const made = await Promise.all(jobs.map((job) => backend.encode(job)));
      jobs.forEach(({ codec, dtype, elements, source, target }, i) => {
        const payload = new Uint8Array(target.length);
        const encoded = codecs.get(codec.name).encode(codec, dtype, elements, source, payload);
        expect(firstDifference(target, payload), `job ${i}`).toBe(-1);
        expect(made[i]).toEqual({ ...encoded, hash: xxh64(payload) });
      });
    });
  });
}

function expectUntouched(bytes: Uint8Array, where: string): void {
  expect(
    bytes.every((byte) => byte === UNTOUCHED),
    `untouched: ${where}`,
  ).toBe(true);
}

async function expectCode(code: string, outcome: unknown): Promise<void> {
  await expect(Promise.resolve(outcome)).rejects.toMatchObject({ code });
}
