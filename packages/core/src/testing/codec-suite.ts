import { describe, expect, it } from "vitest";
import type { Codec, CodecSpec } from "../codec/codec.js";
import { byteLength, DTYPE_BITS, type DType, isFloatDType } from "../dtype.js";
import { CodecProbe, expectCode, joined } from "./codec-probe.js";
import { floatTests, hostileTests, type Spread } from "./codec-properties.js";
import { expectSame, expectTrue } from "./expectations.js";
import { EDGE_LENGTHS, ordinary, shifted } from "./samples.js";

/** What a codec is held to. */
export interface CodecSuiteOptions {
  /** Specs to test; the default one where none are given. */
  readonly specs?: readonly CodecSpec[];
  /**
   * Largest error, in absolute value, of an element of `value` in a block (a chunk, for codecs without blocks) of that
   * spread.
   */
  readonly errorBound: (
    value: number,
    block: Spread,
    of: { readonly spec: CodecSpec; readonly dtype: DType; readonly chunk: Spread },
  ) => number;
  /** Largest magnitude that the bound is for; float32's by default. */
  readonly maxMagnitude?: number;
  /** False for a codec that carries NaN and infinity as they are, and so counts none. */
  readonly countsNonFinite?: boolean;
  /**
   * What encoding chunk by chunk has in common with encoding whole: the scales and the codes, the decoded values only
   * (for a payload of another layout), or nothing (for statistics that are wider than a block).
   */
  readonly chunked?: "payload" | "values" | "nothing";
}

/**
 * Registers the tests that any codec must pass.
 * @example
 * // not run: a suite is of a test file, which vitest runs
 * codecSuite(none, { specs: [{ name: "none" }], errorBound: () => 0 });
 */
export function codecSuite(codec: Codec, options: CodecSuiteOptions): void {
  const specs = options.specs ?? [codec.resolve({ name: codec.name })];
  const dtypes = (Object.keys(DTYPE_BITS) as DType[]).filter((dtype) => codec.supports(dtype));
  const probe = new CodecProbe(codec);

  describe(`codec ${codec.name}`, () => {
    it("has a name and an id", () => {
      expect(codec.name).toMatch(/^[a-z][a-z0-9]*$/);
      expect(Number.isInteger(codec.id) && codec.id >= 0 && codec.id <= 0xffff).toBe(true);
    });

    it("resolves a spec once and for all, and refuses what it does not take", () => {
      for (const spec of specs) expect(codec.resolve(codec.resolve(spec))).toEqual(codec.resolve(spec));
      expectCode("INVALID_ARGUMENT", () => codec.resolve({ name: `${codec.name}x` }));
      expectCode("INVALID_ARGUMENT", () =>
        codec.resolve({ name: codec.name, surprise: 1 } as unknown as CodecSpec),
      );
    });

    it("refuses dtypes that it does not support, and counts that are none", () => {
      const [spec] = specs as [CodecSpec];
      for (const dtype of Object.keys(DTYPE_BITS) as DType[]) {
        if (codec.supports(dtype)) continue;
        expectCode("INVALID_ARGUMENT", () =>
          codec.encode(spec, dtype, 64, new Uint8Array(512), new Uint8Array(4096)),
        );
      }
      for (const elements of [-1, 0.5, Number.NaN, 2 ** 53]) {
        expectCode("INVALID_ARGUMENT", () => codec.payloadBytes(spec, dtypes[0]!, elements));
      }
    });

    for (const spec of specs) {
      for (const dtype of dtypes) {
        describe(`${JSON.stringify(spec)} of ${dtype}`, () => {
          chunkTests(spec, dtype);
          if (isFloatDType(dtype)) floatTests(codec, spec, dtype, options);
          hostileTests(codec, spec, dtype);
        });
      }
    }
  });

  function chunkTests(spec: CodecSpec, dtype: DType): void {
    // Dtypes under a byte come in whole bytes.
    const lengths = EDGE_LENGTHS.filter((elements) => (elements * DTYPE_BITS[dtype]) % 8 === 0);

    it("fills its announced size, the same bytes every time, wherever the buffers begin", () => {
      for (const elements of lengths) {
        const source = ordinary(dtype, elements, elements);
        const { payload, encoded } = probe.encode(spec, dtype, elements, source);
        expectTrue(encoded.nonFinite + encoded.clamped === 0, "ordinary elements are carried");
        if (encoded.declined) continue;
        const values = probe.decode(spec, dtype, elements, payload, dtype);
        for (const offset of [0, 1, 2, 4]) {
          const where = `${elements} elements, ${offset} bytes off`;
          const again = probe.encode(spec, dtype, elements, shifted(source, offset), offset);
          expectSame(again.payload, payload, where);
          expectTrue(
            JSON.stringify(again.encoded) === JSON.stringify(encoded),
            `the same findings: ${where}`,
          );
          const back = probe.decode(spec, dtype, elements, shifted(payload, offset), dtype, offset);
          expectSame(back, values, where);
        }
      }
    });

    it("encodes chunk by chunk what it encodes whole", () => {
      if (options.chunked === "nothing") return;
      const elements = 5 * 4096 + (DTYPE_BITS[dtype] < 8 ? 40 : 37);
      const source = ordinary(dtype, elements, 3);
      // Not at the tensor's beginning, and past the numbers of 32 bits.
      const at = { tensor: 0x123456789abcdef0n, first: 2 ** 34 - 8192 };
      const whole = probe.encode(spec, dtype, elements, source, 0, at);
      const parts = [0, 4096, 3 * 4096, elements].map((end, i, bounds) => {
        const begin = bounds[i - 1] ?? 0;
        const part = source.subarray(byteLength(dtype, begin), byteLength(dtype, end));
        const position = { ...at, first: at.first + begin };
        const made = probe.encode(spec, dtype, end - begin, part, 0, position);
        return { ...made, values: probe.decode(spec, dtype, end - begin, made.payload, dtype) };
      });
      const values = probe.decode(spec, dtype, elements, whole.payload, dtype);
      expectSame(joined(parts.map((part) => part.values)), values, "the values");
      if (options.chunked === "values") return;
      const scales = parts.map(({ payload, encoded }) => payload.subarray(0, encoded.scaleBytes));
      const codes = parts.map(({ payload, encoded }) => payload.subarray(encoded.scaleBytes));
      expectSame(joined([...scales, ...codes]), whole.payload, "scales, then codes");
    });

    it("refuses buffers that are too short", () => {
      const source = ordinary(dtype, 128, 6);
      const size = codec.payloadBytes(spec, dtype, 128);
      const target = new Uint8Array(size);
      expectCode("INVALID_ARGUMENT", () => {
        codec.encode(spec, dtype, 128, source.subarray(1), target);
      });
      expectCode("INVALID_ARGUMENT", () => {
        codec.encode(spec, dtype, 128, source, target.subarray(1));
      });
      const { bytes, declined } = codec.encode(spec, dtype, 128, source, target);
      if (declined) return;
      const short = new Uint8Array(byteLength(dtype, 128) - 1);
      expectCode("INVALID_ARGUMENT", () => {
        codec.decode(spec, dtype, 128, target.subarray(0, bytes), dtype, short);
      });
    });
  }
}
