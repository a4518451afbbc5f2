import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Codec, CodecSpec, Encoded } from "../codec/codec.js";
import { byteLength, DTYPE_BITS, type DType, FLOAT_DTYPES, isFloatDType } from "../dtype.js";
import { firstDifference, firstDifferentElement } from "./equality.js";
import { decodeFloats, EDGE_LENGTHS, encodeFloats, ordinary, shifted } from "./samples.js";

export interface CodecSuiteOptions {
  /** Specs to test; the default one where none are given. */
  readonly specs?: readonly CodecSpec[];
  /**
   * Largest error, in absolute value, of an element of `value` whose block (whose run, for codecs without blocks) has
   * the largest magnitude `absmax`.
   */
  readonly errorBound: (value: number, absmax: number, spec: CodecSpec) => number;
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

const UNTOUCHED = 0xa5;

interface Made {
  readonly payload: Uint8Array;
  readonly encoded: Encoded;
}

/** Registers the tests that any codec must pass. */
export function codecSuite(codec: Codec, options: CodecSuiteOptions): void {
  const specs = options.specs ?? [codec.resolve({ name: codec.name })];
  const dtypes = (Object.keys(DTYPE_BITS) as DType[]).filter((dtype) => codec.supports(dtype));

  /** Encodes into a target with room behind the payload, and checks what holds for every encoding. */
  function encode(spec: CodecSpec, dtype: DType, elements: number, source: Uint8Array, offset = 0): Made {
    const size = codec.payloadBytes(spec, dtype, elements);
    const before = source.slice();
    const room = new Uint8Array(offset + size + 64).fill(UNTOUCHED);
    const encoded = codec.encode(spec, dtype, elements, source, room.subarray(offset));
    expect(encoded.bytes, "bytes as announced").toBe(size);
    expect(encoded.scaleBytes, "scale bytes as announced").toBe(codec.scaleBytes(spec, dtype, elements));
    expect(firstDifference(source, before), "the source is never written").toBe(-1);
    const outside = [...room.subarray(0, offset), ...room.subarray(offset + size)];
    expect(
      outside.every((byte) => byte === UNTOUCHED),
      "nothing is written beyond the payload",
    ).toBe(true);
    return { payload: room.slice(offset, offset + size), encoded };
  }

  function decode(
    spec: CodecSpec,
    dtype: DType,
    elements: number,
    payload: Uint8Array,
    output: DType,
    offset = 0,
  ): Uint8Array {
    const size = byteLength(output, elements);
    const before = payload.slice();
    const room = new Uint8Array(offset + size + 64).fill(UNTOUCHED);
    codec.decode(spec, dtype, elements, payload, output, room.subarray(offset));
    expect(firstDifference(payload, before), "the payload is never written").toBe(-1);
    expect(
      room.subarray(offset + size).every((byte) => byte === UNTOUCHED),
      "nothing is written beyond the elements",
    ).toBe(true);
    return room.slice(offset, offset + size);
  }

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
          // Dtypes under a byte come in whole bytes.
          const lengths = EDGE_LENGTHS.filter((elements) => (elements * DTYPE_BITS[dtype]) % 8 === 0);

          it("fills its announced size, the same bytes every time, wherever the buffers begin", () => {
            for (const elements of lengths) {
              const source = ordinary(dtype, elements, elements);
              const { payload, encoded } = encode(spec, dtype, elements, source);
              expect(encoded.nonFinite + encoded.clamped).toBe(0);
              const values = decode(spec, dtype, elements, payload, dtype);
              for (const offset of [0, 1, 2, 4]) {
                const where = `${elements} elements, ${offset} bytes off`;
                const again = encode(spec, dtype, elements, shifted(source, offset), offset);
                expect(firstDifference(again.payload, payload), where).toBe(-1);
                expect(again.encoded, where).toEqual(encoded);
                const back = decode(spec, dtype, elements, shifted(payload, offset), dtype, offset);
                expect(firstDifference(back, values), where).toBe(-1);
              }
            }
          });

          it("encodes chunk by chunk what it encodes whole", () => {
            if (options.chunked === "nothing") return;
            const elements = 5 * 4096 + (DTYPE_BITS[dtype] < 8 ? 40 : 37);
            const source = ordinary(dtype, elements, 3);
            const whole = encode(spec, dtype, elements, source);
            const parts = [0, 4096, 3 * 4096, elements].map((end, i, bounds) => {
              const begin = bounds[i - 1] ?? 0;
              const part = source.subarray(byteLength(dtype, begin), byteLength(dtype, end));
              const made = encode(spec, dtype, end - begin, part);
              return { ...made, values: decode(spec, dtype, end - begin, made.payload, dtype) };
            });
            const values = decode(spec, dtype, elements, whole.payload, dtype);
            expect(firstDifference(joined(parts.map((part) => part.values)), values)).toBe(-1);
            if (options.chunked === "values") return;
            const scales = parts.map(({ payload, encoded }) => payload.subarray(0, encoded.scaleBytes));
            const codes = parts.map(({ payload, encoded }) => payload.subarray(encoded.scaleBytes));
            expect(firstDifference(joined([...scales, ...codes]), whole.payload)).toBe(-1);
          });

          it("refuses a payload of another length, and leaves the target alone", () => {
            const elements = 4096 + 128;
            const { payload } = encode(spec, dtype, elements, ordinary(dtype, elements, 5));
            const target = new Uint8Array(byteLength(dtype, elements)).fill(UNTOUCHED);
            const longer = joined([payload, new Uint8Array(1)]);
            for (const wrong of [payload.subarray(1), longer, payload.subarray(0, 0)]) {
              expectCode("PAYLOAD_INVALID", () => {
                codec.decode(spec, dtype, elements, wrong, dtype, target);
              });
            }
            expect(target.every((byte) => byte === UNTOUCHED)).toBe(true);
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
            codec.encode(spec, dtype, 128, source, target);
            expectCode("INVALID_ARGUMENT", () => {
              codec.decode(spec, dtype, 128, target, dtype, new Uint8Array(byteLength(dtype, 128) - 1));
            });
          });

          if (isFloatDType(dtype)) floatTests(spec, dtype);
        });
      }
    }
  });

  function floatTests(spec: CodecSpec, dtype: DType): void {
    it("decodes to another dtype what it decodes to F32, rounded", () => {
      const elements = 4099;
      const { payload } = encode(spec, dtype, elements, ordinary(dtype, elements, 8));
      const values = decode(spec, dtype, elements, payload, "F32");
      for (const output of FLOAT_DTYPES) {
        // Its own dtype may come back more exactly than through F32.
        if (output === dtype || output === "F32") continue;
        const rounded = encodeFloats(output, new Float32Array(values.buffer, values.byteOffset, elements));
        const given = decode(spec, dtype, elements, payload, output);
        expect(firstDifferentElement(output, given, rounded), output).toBe(-1);
      }
    });

    it("counts every element that is not finite, and survives them all", () => {
      const elements = 4096 + 300;
      const values = decodeFloats(dtype, ordinary(dtype, elements, 9), elements);
      const planted = [0, 1, 63, 64, 700, 4095, 4096, elements - 1];
      planted.forEach((at, i) => {
        values[at] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][i % 3]!;
      });
      const { payload, encoded } = encode(spec, dtype, elements, encodeFloats(dtype, values));
      expect(encoded.nonFinite).toBe(options.countsNonFinite === false ? 0 : planted.length);
      decode(spec, dtype, elements, payload, dtype);
    });

    it("comes back within its bound", () => {
      const max = Math.fround(options.maxMagnitude ?? 3.4028234663852886e38);
      const small = fc.float({ noNaN: true, noDefaultInfinity: true, min: -1, max: 1 });
      const any = fc.float({ noNaN: true, noDefaultInfinity: true, min: -max, max });
      fc.assert(
        fc.property(
          fc.array(fc.oneof(small, any), { maxLength: 300 }),
          fc.constantFrom(0, 1, 3),
          (numbers, offset) => {
            const source = shifted(encodeFloats(dtype, Float32Array.from(numbers)), offset);
            const exact = decodeFloats(dtype, source, numbers.length);
            // What a narrower source dtype made of a number may be out of range.
            if (!exact.every((value) => Math.abs(value) <= max)) return;
            const { payload } = encode(spec, dtype, numbers.length, source, offset);
            const back = decode(spec, dtype, numbers.length, payload, "F32");
            const values = new Float32Array(back.buffer, back.byteOffset, numbers.length);
            const block = spec.block ?? numbers.length;
            for (let begin = 0; begin < numbers.length; begin += block) {
              const run = exact.subarray(begin, begin + block);
              const absmax = run.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
              run.forEach((value, i) => {
                const bound = options.errorBound(value, absmax, spec);
                const error = Math.abs(values[begin + i]! - value);
                if (!(error <= bound)) {
                  throw new Error(`${value} came back as ${values[begin + i]}: ${error} off, bound ${bound}`);
                }
              });
            }
          },
        ),
        { numRuns: 60, seed: 1 },
      );
    });
  }
}

function expectCode(code: string, act: () => unknown): void {
  expect(act).toThrowError(expect.objectContaining({ code }));
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
