import { beforeAll, describe, expect, it } from "vitest";
import type { CodecBackend, DecodeJob, EncodeJob } from "../backend/backend.js";
import { type CodecRegistry, defaultCodecs } from "../codec/registry.js";
import { byteLength, type DType, FLOAT_DTYPES } from "../dtype.js";
import { xxh64 } from "../hash.js";
import { packingTests } from "./backend-packing.js";
import { parityTests } from "./backend-parity.js";
import { sumTests } from "./backend-sums.js";
import { expectRejection, expectUntouched, UNTOUCHED } from "./expectations.js";
import { firstDifference } from "./equality.js";
import { ordinary } from "./samples.js";

/** A job whose elements are the host's. */
type HostEncodeJob = EncodeJob & { readonly source: Uint8Array };
type HostDecodeJob = DecodeJob & { readonly target: Uint8Array };

/** What a backend is held to. */
export interface BackendSuiteOptions {
  /** The reference codecs; the built-in ones by default. */
  readonly codecs?: CodecRegistry;
  /** Names of the codecs to test; all of the registry's by default. */
  readonly names?: readonly string[];
  /** Whether the backend packs, and does not only unpack. */
  readonly packs?: boolean;
}

/**
 * Registers the tests that any backend must pass: above all, that it gives the reference codecs' bytes.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * backendSuite("portable", () => new PortableBackend());
 */
export function backendSuite(
  name: string,
  makeBackend: () => CodecBackend | Promise<CodecBackend>,
  options: BackendSuiteOptions = {},
): void {
  const codecs = options.codecs ?? defaultCodecs;
  const names = options.names ?? codecs.names();
  let backend: CodecBackend;

  function encodeJob(codec: string, dtype: DType, elements: number, seed: number): HostEncodeJob {
    const spec = codecs.resolve(codec);
    const target = new Uint8Array(codecs.get(codec).payloadBytes(spec, dtype, elements)).fill(UNTOUCHED);
    return { codec: spec, dtype, elements, source: ordinary(dtype, elements, seed), target };
  }

  async function decodeJob(codec: string, dtype: DType, elements: number): Promise<HostDecodeJob> {
    const { target: room, ...job } = encodeJob(codec, dtype, elements, 17);
    const { hash, bytes } = await backend.encode({ ...job, target: room });
    const payload = room.subarray(0, bytes);
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

    parityTests(codecs, names, () => backend);
    packingTests(codecs, names, options.packs ?? false, () => backend);
    sumTests(codecs, names, () => backend);

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
        await expectRejection("CHUNK_CORRUPT", backend.decode({ ...job, payload: flipped }));
        await expectRejection("CHUNK_CORRUPT", backend.decode({ ...job, hash: job.hash! ^ 1n }));
        await expectRejection("CHUNK_CORRUPT", backend.decode({ ...job, hash: job.hash! ^ (1n << 63n) }));
      }
    });

    it("does not look at the hash of a payload that was verified before", async () => {
      const job = await decodeJob("float16", "F32", 1000);
      const flipped = job.payload.slice();
      flipped[1]! ^= 0x10;
      await backend.decode({ ...job, payload: flipped, hash: undefined });
      const expected = new Uint8Array(job.target.length);
      codecs.get("float16").decode(job.codec, "F32", 1000, flipped, "F32", expected);
      expect(firstDifference(job.target, expected)).toBe(-1);
    });

    it("refuses a payload of another length, and leaves the target alone", async () => {
      for (const codec of names) {
        const job = await decodeJob(codec, "F32", 1000);
        const payload = job.payload.subarray(0, job.payload.length - 1);
        await expectRejection("PAYLOAD_INVALID", backend.decode({ ...job, payload, hash: xxh64(payload) }));
        expectUntouched(job.target, codec);
      }
    });

    it("rejects, and never throws, where an argument cannot be used", async () => {
      const job = encodeJob("float16", "F32", 100, 2);
      const short = new Uint8Array(199);
      await expectRejection("INVALID_ARGUMENT", backend.encode({ ...job, target: short }));
      await expectRejection("INVALID_ARGUMENT", backend.encode({ ...job, source: short }));
      await expectRejection("INVALID_ARGUMENT", backend.encode({ ...job, dtype: "I32" }));
      await expectRejection("INVALID_ARGUMENT", backend.encode({ ...job, elements: -1 }));
      await expectRejection("CODEC_UNSUPPORTED", backend.encode({ ...job, codec: { name: "absent" } }));
      const back = await decodeJob("float16", "F32", 100);
      await expectRejection("INVALID_ARGUMENT", backend.decode({ ...back, target: short }));
      await expectRejection("CODEC_UNSUPPORTED", backend.decode({ ...back, codec: { name: "absent" } }));
      // No buffer of any device.
      const foreign = { buffer: {}, byteOffset: 0, byteLength: 400 };
      await expectRejection("INVALID_ARGUMENT", backend.encode({ ...job, source: foreign }));
      await expectRejection("INVALID_ARGUMENT", backend.decode({ ...back, target: foreign }));
    });

    it("does nothing for a signal that is aborted already", async () => {
      const signal = AbortSignal.abort(new Error("changed my mind"));
      const job = encodeJob("bfloat16", "F32", 1000, 3);
      await expectRejection("ABORTED", backend.encode({ ...job, signal }));
      expectUntouched(job.target, "encode");
      const back = await decodeJob("bfloat16", "F32", 1000);
      await expectRejection("ABORTED", backend.decode({ ...back, signal }));
      expectUntouched(back.target, "decode");
      await expectRejection("ABORTED", backend.hash(new Uint8Array(10), signal));
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
        const whole = new Uint8Array(target.length);
        const encoded = codecs.get(codec.name).encode(codec, dtype, elements, source, whole);
        const payload = whole.subarray(0, encoded.bytes);
        expect(firstDifference(target.subarray(0, encoded.bytes), payload), `job ${i}`).toBe(-1);
        expect(made[i]).toEqual({ ...encoded, hash: xxh64(payload) });
      });
    });
  });
}
