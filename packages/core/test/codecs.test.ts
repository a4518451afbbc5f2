import { describe, expect, it } from "vitest";
import {
  bfloat16,
  blockwise8,
  type Codec,
  type CodecSpec,
  float4,
  float16,
  none,
  normfloat4,
} from "../src/index.js";
import { codecSuite, encodeFloats, type Spread } from "../src/testing/index.js";

// Half the widest gap between levels, in units of the block's largest magnitude, and what float32 rounding adds. Below
// 2^-126 scales are subnormal: an element may then come back as anything up to its scale.
const level =
  (half: number) =>
  (_value: number, { absmax }: Spread) =>
    absmax * (half + 1e-6) + 2 ** -125;

codecSuite(none, { countsNonFinite: false, errorBound: () => 0 });
codecSuite(float16, {
  maxMagnitude: 65504,
  errorBound: (value) => Math.max(Math.abs(value) * 2 ** -11, 2 ** -25),
});
codecSuite(bfloat16, {
  maxMagnitude: (2 - 2 ** -7) * 2 ** 127,
  errorBound: (value) => Math.max(Math.abs(value) * 2 ** -8, 2 ** -134),
});
// The widest gap is from -1, which has no code, to the least level.
codecSuite(blockwise8, {
  specs: [64, 256, 4096].map((block) => ({ name: "blockwise8", block })),
  errorBound: level(1 - 0.9929687),
});
// The widest gaps are from 2/3 to 1, decided at 5/6, and from -1 to the next level of NF4.
const fourBit = { float4: 1 / 6, normfloat4: (1 - 0.6961928) / 2 };
for (const codec of [float4, normfloat4]) {
  const bound = level(fourBit[codec.name as keyof typeof fourBit]);
  codecSuite(codec, {
    specs: [32, 64, 4096].map((block) => ({ name: codec.name, block })),
    errorBound: bound,
  });
  // A nested scale is off by what blockwise8 makes of its difference from the mean, and no level is above 1.
  codecSuite(codec, {
    specs: [32, 64, 4096].map((block) => ({ name: codec.name, block, nested: true })),
    chunked: "nothing",
    errorBound: (value, block, { chunk }) => bound(value, block) + level(1 - 0.9929687)(value, chunk),
  });
}

function encode(codec: Codec, values: number[], spec: CodecSpec = { name: codec.name }) {
  const target = new Uint8Array(codec.payloadBytes(spec, "F32", values.length));
  const source = encodeFloats("F32", Float32Array.from(values));
  return { ...codec.encode(spec, "F32", values.length, source, target), payload: target };
}

describe("float16", () => {
  it("clamps finite overflow to the largest half, and counts it", () => {
    const { payload, clamped, nonFinite } = encode(float16, [
      65504,
      65519,
      65520,
      -1e30,
      Number.POSITIVE_INFINITY,
    ]);
    expect([...new Uint16Array(payload.buffer)]).toEqual([0x7bff, 0x7bff, 0x7bff, 0xfbff, 0x7c00]);
    expect({ clamped, nonFinite }).toEqual({ clamped: 2, nonFinite: 1 });
  });
});

describe("bfloat16", () => {
  it("counts finite values that round to infinity as not finite", () => {
    const top = (2 - 2 ** -7) * 2 ** 127;
    const { payload, clamped, nonFinite } = encode(bfloat16, [top, top * 1.001, 3.4028234663852886e38]);
    expect([...new Uint16Array(payload.buffer)]).toEqual([0x7f7f, 0x7f7f, 0x7f80]);
    expect({ clamped, nonFinite }).toEqual({ clamped: 0, nonFinite: 1 });
  });
});

describe("doubles", () => {
  it("are not finite where float32 has no finite value next to them", () => {
    const largest = 3.4028234663852886e38;
    const values = [largest, largest + 2 ** 102, largest + 2 ** 103, 1e39, -1e308, 1e-300];
    for (const codec of [float16, bfloat16, blockwise8, float4, normfloat4]) {
      const target = new Uint8Array(codec.payloadBytes({ name: codec.name }, "F64", values.length));
      const source = new Uint8Array(Float64Array.from(values).buffer);
      const { nonFinite } = codec.encode({ name: codec.name }, "F64", values.length, source, target);
      // bfloat16 rounds the topmost two of float32's values to infinity as well.
      expect(nonFinite, codec.name).toBe(codec.name === "bfloat16" ? 5 : 3);
    }
  });
});

describe("block codecs", () => {
  it.each([blockwise8, float4, normfloat4])("$name takes powers of two only", (codec) => {
    const smallest = codec === blockwise8 ? 64 : 32;
    for (let block = smallest; block <= 4096; block *= 2) {
      expect(codec.resolve({ name: codec.name, block })).toEqual({ name: codec.name, block });
    }
    const wrong: unknown[] = [
      0,
      -64,
      smallest / 2,
      63,
      96,
      8192,
      64.5,
      Number.NaN,
      2 ** 32 + 64,
      "64",
      null,
      [64],
      {},
    ];
    for (const block of wrong) {
      const spec = { name: codec.name, block } as CodecSpec;
      expect(() => codec.resolve(spec), String(block)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    }
  });

  it.each([float4, normfloat4])("$name nests its scales where that is asked for", (codec) => {
    const { name } = codec;
    expect(codec.resolve({ name, nested: true })).toEqual({ name, block: 64, nested: true });
    expect(codec.resolve({ name, nested: false })).toEqual({ name, block: 64 });
    for (const nested of [1, "true", null, Number.NaN]) {
      expect(() => codec.resolve({ name, nested } as unknown as CodecSpec)).toThrow(
        "true or false as nested",
      );
    }
    expect(() => blockwise8.resolve({ name: "blockwise8", nested: true })).toThrow("no parameter");
    // 4.127 bits a weight: 4, 8 for each 64, 32 for each 64 × 256, and 32 for a chunk.
    const elements = 2 ** 20;
    expect((8 * codec.payloadBytes({ name, nested: true }, "F32", elements)) / elements).toBeCloseTo(
      4.127,
      3,
    );
  });

  it("defaults to bitsandbytes' blocks", () => {
    expect(blockwise8.resolve({ name: "blockwise8" })).toEqual({ name: "blockwise8", block: 4096 });
    expect(float4.resolve({ name: "float4" })).toEqual({ name: "float4", block: 64 });
    expect(normfloat4.resolve({ name: "normfloat4", block: undefined } as unknown as CodecSpec).block).toBe(
      64,
    );
  });

  it("puts the scales first, and the even element in the high nibble", () => {
    const { payload, scaleBytes } = encode(normfloat4, [2, -2, 0]);
    expect(scaleBytes).toBe(4);
    expect(new Float32Array(payload.slice(0, 4).buffer)[0]).toBe(2);
    // The padding behind an odd count is a zero: code 7.
    expect([...payload.slice(4)]).toEqual([0xf0, 0x77]);
  });
});

describe("none", () => {
  it("converts between float dtypes, and between no others", () => {
    const target = new Uint8Array(8);
    const one = encodeFloats("BF16", Float32Array.of(1.5));
    none.decode({ name: "none" }, "BF16", 1, one, "F64", target);
    expect(new Float64Array(target.buffer)[0]).toBe(1.5);
    for (const [dtype, output] of [
      ["I32", "F32"],
      ["F32", "I32"],
      ["I32", "U32"],
    ] as const) {
      expect(() => none.decode({ name: "none" }, dtype, 1, new Uint8Array(4), output, target)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    }
  });
});
