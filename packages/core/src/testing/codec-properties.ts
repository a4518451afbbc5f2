import fc from "fast-check";
import { expect, it } from "vitest";
import type { Codec, CodecSpec } from "../codec/codec.js";
import { byteLength, DTYPE_BITS, type DType, FLOAT_DTYPES, isFloatDType } from "../dtype.js";
import { CodecProbe } from "./codec-probe.js";
import type { CodecSuiteOptions } from "./codec-suite.js";
import { firstDifference, firstDifferentElement } from "./equality.js";
import { expectSameElements } from "./expectations.js";
import { decodeFloats, encodeFloats, ordinary, shifted } from "./samples.js";

/** What is known of a run of values. */
export interface Spread {
  /** The least value. */
  readonly least: number;
  /** The largest value. */
  readonly largest: number;
  /** The largest magnitude. */
  readonly absmax: number;
}

function spreadOf(values: Float32Array): Spread {
  const least = values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
  const largest = values.reduce((largest, value) => Math.max(largest, value), Number.NEGATIVE_INFINITY);
  return { least, largest, absmax: Math.max(Math.abs(least), Math.abs(largest)) };
}

/** What holds for elements that codecs compute with. */
export function floatTests(codec: Codec, spec: CodecSpec, dtype: DType, options: CodecSuiteOptions): void {
  const probe = new CodecProbe(codec);

  it("decodes to another dtype what it decodes to F32, rounded", () => {
    const elements = 4099;
    const { payload, encoded } = probe.encode(spec, dtype, elements, ordinary(dtype, elements, 8));
    if (encoded.declined) return;
    const values = probe.decode(spec, dtype, elements, payload, "F32");
    for (const output of FLOAT_DTYPES) {
      // Its own dtype may come back more exactly than through F32.
      if (output === dtype || output === "F32") continue;
      const rounded = encodeFloats(output, new Float32Array(values.buffer, values.byteOffset, elements));
      const given = probe.decode(spec, dtype, elements, payload, output);
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
    const { payload, encoded } = probe.encode(spec, dtype, elements, encodeFloats(dtype, values));
    expect(encoded.nonFinite).toBe(options.countsNonFinite === false ? 0 : planted.length);
    if (!encoded.declined) probe.decode(spec, dtype, elements, payload, dtype);
  });

  it("comes back within its bound", () => {
    const max = Math.fround(options.maxMagnitude ?? 3.4028234663852886e38);
    const small = fc.float({ noNaN: true, noDefaultInfinity: true, min: -1, max: 1 });
    const any = fc.float({ noNaN: true, noDefaultInfinity: true, min: -max, max });
    // Chunks of both kinds, and of one: a large value would hide the others where statistics are a chunk's.
    const numbers = fc.oneof(
      fc.array(small, { maxLength: 300 }),
      fc.array(fc.oneof(small, any), { maxLength: 300 }),
    );
    fc.assert(
      fc.property(numbers, fc.constantFrom(0, 1, 3), (numbers, offset) => {
        const source = shifted(encodeFloats(dtype, Float32Array.from(numbers)), offset);
        const exact = decodeFloats(dtype, source, numbers.length);
        // What a narrower source dtype made of a number may be out of range.
        if (!exact.every((value) => Math.abs(value) <= max)) return;
        const { payload, encoded } = probe.encode(spec, dtype, numbers.length, source, offset);
        expect(encoded.nonFinite).toBe(0);
        if (encoded.declined) return;
        const back = probe.decode(spec, dtype, numbers.length, payload, "F32");
        const values = new Float32Array(back.buffer, back.byteOffset, numbers.length);
        const block = spec.block ?? numbers.length;
        const chunk = spreadOf(exact);
        for (let begin = 0; begin < numbers.length; begin += block) {
          const run = exact.subarray(begin, begin + block);
          const spread = spreadOf(run);
          run.forEach((value, i) => {
            const bound = options.errorBound(value, spread, { spec, dtype, chunk });
            const error = Math.abs(values[begin + i]! - value);
            if (!(error <= bound)) {
              throw new Error(`${value} came back as ${values[begin + i]}: ${error} off, bound ${bound}`);
            }
          });
        }
      }),
      { numRuns: 60, seed: 1 },
    );
  });
}

/** What holds for payloads that no encoder made. */
export function hostileTests(codec: Codec, spec: CodecSpec, dtype: DType): void {
  const probe = new CodecProbe(codec);

  /** Whether it was taken: then the target is filled, whatever it held before. */
  function decodes(elements: number, payload: Uint8Array, output: DType): boolean {
    try {
      const first = probe.decode(spec, dtype, elements, payload, output, 1);
      const second = new Uint8Array(byteLength(output, elements));
      codec.decode(spec, dtype, elements, payload, output, second);
      expectSameElements(output, first, second, "all of the target is written");
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: "PAYLOAD_INVALID" });
      return false;
    }
  }

  it("fills the target from whatever bytes there are, or refuses them", () => {
    const random = (bytes: number, seed: number) => ordinary("U8", bytes, seed);
    // Dtypes under a byte come in whole bytes.
    const step = DTYPE_BITS[dtype] < 8 ? 4 : 1;
    const lengths = fc.oneof(fc.nat(300), fc.integer({ min: 4090, max: 4700 }));
    const patches = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 });
    const outputs = isFloatDType(dtype) ? FLOAT_DTYPES : [dtype];
    fc.assert(
      fc.property(
        lengths,
        fc.nat(),
        patches,
        fc.constantFrom<DType>(...outputs),
        (length, seed, patch, output) => {
          const elements = Math.ceil(length / step) * step;
          for (const bytes of probe.sizes(spec, dtype, elements)) {
            decodes(elements, random(bytes, seed), output);
          }
          // Nearly right is more likely to be taken than noise.
          const { payload, encoded } = probe.encode(spec, dtype, elements, ordinary(dtype, elements, seed));
          if (encoded.declined) return;
          expect(decodes(elements, payload, output)).toBe(true);
          for (const [at, byte] of patch) payload[at % (payload.length || 1)] = byte;
          decodes(elements, payload, output);
        },
      ),
      { numRuns: 25, seed: 1 },
    );
  });

  it("refuses every length that no payload has, and leaves the target alone", () => {
    const elements = 4096 + 128;
    const sizes = probe.sizes(spec, dtype, elements);
    const target = new Uint8Array(byteLength(dtype, elements)).fill(0xa5);
    for (const size of [0, ...sizes.flatMap((size) => [size - 1, size + 1])]) {
      if (sizes.includes(size)) continue;
      expect(() => codec.decode(spec, dtype, elements, new Uint8Array(size), dtype, target)).toThrow(
        expect.objectContaining({ code: "PAYLOAD_INVALID" }),
      );
    }
    expect(firstDifference(target, target.slice().fill(0xa5))).toBe(-1);
  });
}
