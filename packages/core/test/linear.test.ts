import { describe, expect, it } from "vitest";
import {
  type CodecSpec,
  defaultCodecs,
  type LinearCodec,
  linear2,
  linear3,
  linear4,
  linear5,
  linear6,
  linear7,
  linear8,
  philox4x32,
  xxh64,
} from "../src/index.js";
import { codecSuite, encodeFloats, pseudoRandom } from "../src/testing/index.js";

const FLT_MAX = 3.4028234663852886e38;
const codecs = [linear2, linear3, linear4, linear5, linear6, linear7, linear8];
const bitsOf = (name: string) => Number(name.slice("linear".length));
const SEED = "0123456789abcdef";

// Widths differ in how codes lie in bytes and in how many levels there are: what is the same for all is tried with those
// that take a part of a byte, cross bytes, and take a whole one.
const THOROUGH = [2, 3, 8];

for (const codec of codecs) {
  const { name } = codec;
  const bits = bitsOf(name);
  const top = 2 ** (bits - 1) - 1;
  const stochastic = { rounding: "stochastic", seed: SEED } as const;
  const specsOf = (given: Omit<CodecSpec, "name">[], thorough: Omit<CodecSpec, "name">[]) =>
    [...given, ...(THOROUGH.includes(bits) ? thorough : [])].map((spec) => ({ name, ...spec }));
  // Half a step, or one where rounding is stochastic; float32 rounding; and blocks whose scale has no reciprocal.
  const rounding = (absmax: number) => absmax * 2 ** -20 + 2 ** -120;
  const steps = (spec: CodecSpec) => (spec.rounding === "stochastic" ? 1 : 0.5);
  codecSuite(codec, {
    specs: specsOf([{}], [{ block: 32 }, { block: 4096 }, stochastic]),
    maxMagnitude: FLT_MAX / 2.1,
    errorBound: (_value, { absmax }, { spec }) => (steps(spec) * absmax) / top + rounding(absmax),
  });
  codecSuite(codec, {
    specs: specsOf([{ mode: "affine", block: 32, ...stochastic }], [{ mode: "affine" }]),
    maxMagnitude: FLT_MAX / 2.1,
    chunked: "values",
    errorBound: (_value, { least, largest, absmax }, { spec }) =>
      (steps(spec) * (largest - least)) / (2 * top + 1) + rounding(absmax),
  });
  const scale = 0.07 / top;
  codecSuite(codec, {
    specs: specsOf([{ scale }], [{ scale, ...stochastic }]),
    errorBound: (value, _block, { spec }) =>
      Math.max(Math.abs(value) - top * scale, 0) + steps(spec) * scale + rounding(Math.abs(value)),
  });
}

function encode(
  codec: LinearCodec,
  given: Omit<CodecSpec, "name">,
  values: readonly number[],
  first?: number,
) {
  const spec = { name: codec.name, ...given };
  const target = new Uint8Array(codec.payloadBytes(spec, "F32", values.length));
  const source = encodeFloats("F32", Float32Array.from(values));
  const at = first === undefined ? undefined : { tensor: xxh64(new TextEncoder().encode("w")), first };
  return { ...codec.encode(spec, "F32", values.length, source, target, at), payload: target };
}

function decode(codec: LinearCodec, given: Omit<CodecSpec, "name">, payload: Uint8Array, elements: number) {
  const values = new Float32Array(elements);
  const spec = { name: codec.name, ...given };
  codec.decode(spec, "F32", elements, payload, "F32", new Uint8Array(values.buffer));
  return [...values];
}

const floats = (bytes: Uint8Array) => [...new Float32Array(bytes.slice().buffer)];

describe("linear codecs", () => {
  it("resolve to all that they will do", () => {
    const plain = { name: "linear4", block: 256, mode: "symmetric", rounding: "nearest" };
    expect(linear4.resolve({ name: "linear4" })).toEqual(plain);
    expect(linear4.resolve({ name: "linear4", block: 32, mode: "affine" })).toEqual({
      ...plain,
      block: 32,
      mode: "affine",
    });
    const stochastic = { ...plain, rounding: "stochastic" };
    expect(linear4.resolve({ name: "linear4", rounding: "stochastic" })).toEqual(stochastic);
    expect(linear4.resolve({ name: "linear4", rounding: "stochastic", seed: SEED })).toEqual({
      ...stochastic,
      seed: SEED,
    });
    expect(linear4.resolve({ name: "linear4", scale: 0.1 })).toEqual({
      name: "linear4",
      mode: "symmetric",
      rounding: "nearest",
      scale: 0.1,
    });
  });

  it.each<[string, Record<string, unknown>]>([
    ["a seed with stochastic rounding only", { seed: SEED }],
    ["a seed with stochastic rounding only", { seed: SEED, rounding: "nearest" }],
    ["16 hexadecimal digits", { seed: SEED.toUpperCase(), rounding: "stochastic" }],
    ["16 hexadecimal digits", { seed: SEED.slice(1), rounding: "stochastic" }],
    ["16 hexadecimal digits", { seed: `${SEED}\n`, rounding: "stochastic" }],
    ["16 hexadecimal digits", { seed: 5, rounding: "stochastic" }],
    ["a block or a scale, not both", { block: 256, scale: 1 }],
    ["symmetric mode only", { mode: "affine", scale: 1 }],
    ["a rounding of nearest or stochastic", { rounding: "up" }],
    ["a rounding of nearest or stochastic", { rounding: true }],
    ["a mode of symmetric or affine", { mode: 1 }],
    ["no parameter", { weight: 1 }],
    ["no parameter", { nested: true }],
    ...[16, 8192, 96, Number.NaN, "256", null].map((block): [string, Record<string, unknown>] => [
      "takes a block of 32",
      { block },
    ]),
    ...[
      0,
      -1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "1",
      null,
      true,
      1e39,
      1e-39,
      2 ** -127,
      2 ** 126.5,
      1e37,
      Object.create(null),
    ].map((scale): [string, Record<string, unknown>] => ["takes a scale that is positive", { scale }]),
  ])("say %s: %j", (message, parameters) => {
    expect(() => linear8.resolve({ name: "linear8", ...parameters } as CodecSpec)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
    );
  });

  it("take the least and the largest scale that have a normal reciprocal", () => {
    for (const scale of [2 ** -126, 2 ** 120])
      expect(linear8.resolve({ name: "linear8", scale })).toMatchObject({ scale });
    expect(linear2.resolve({ name: "linear2", scale: 2 ** 126 })).toMatchObject({ scale: 2 ** 126 });
  });

  it("round to the nearest level, ties to even", () => {
    // The block's scale is 1.
    const values = [7, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, -7];
    const { payload } = encode(linear4, {}, values);
    expect(floats(payload.subarray(0, 4))).toEqual([1]);
    expect([...payload.subarray(4)]).toEqual([0x7e, 0x99, 0x57, 0x75, 0x00]);
    expect(decode(linear4, {}, payload, 9)).toEqual([7, 0, 2, 2, 0, -2, -2, 0, -7]);
  });

  it("put scales before offsets, and a block's least value at code 0", () => {
    const values = [...new Array<number>(32).fill(5), ...new Array<number>(31).fill(-1), 14];
    const { payload, scaleBytes } = encode(linear4, { mode: "affine", block: 32 }, values);
    expect(scaleBytes).toBe(16);
    expect(floats(payload.subarray(0, 16))).toEqual([0, 1, 5, -1]);
    expect([...payload.subarray(16, 32)].every((byte) => byte === 0)).toBe(true);
    expect(payload.at(-1)).toBe(0xf0);
    expect(decode(linear4, { mode: "affine", block: 32 }, payload, 64)).toEqual(values);
  });

  it("have no negative zero as an offset", () => {
    const { payload } = encode(linear4, { mode: "affine" }, [-0, -0, 15]);
    expect([...payload.subarray(4, 8)]).toEqual([0, 0, 0, 0]);
  });

  it("decode every code and every scale as the formula says", () => {
    const parts = [...new Uint8Array(Float32Array.of(-2).buffer), 0x70, 0x0f];
    expect(decode(linear4, {}, Uint8Array.from(parts), 4)).toEqual([14, -0, -16, 14]);
  });

  it("count what they cannot carry: a block's values that are not finite, or all where its range is not", () => {
    const nan = encode(linear3, { block: 32 }, [
      ...new Array<number>(32).fill(1),
      Number.NaN,
      1,
      Number.POSITIVE_INFINITY,
    ]);
    expect(nan.nonFinite).toBe(2);
    expect(floats(nan.payload.subarray(0, 8))).toEqual([Math.fround(1 / 3), 0]);
    // Code 3 is zero: 011 011 011.
    expect([...nan.payload.subarray(8 + 12)]).toEqual([0b11011011, 0]);
    // 31 × f32(FLT_MAX / 31) is infinite; of −FLT_MAX … FLT_MAX the difference is.
    expect(encode(linear6, {}, [FLT_MAX, 1, 2]).nonFinite).toBe(3);
    expect(encode(linear5, {}, [FLT_MAX, 1, 2]).nonFinite).toBe(0);
    const wide = encode(linear4, { mode: "affine" }, [FLT_MAX, -FLT_MAX, 2, 1]);
    expect(wide.nonFinite).toBe(4);
    expect([...wide.payload]).toEqual(new Array(10).fill(0));
    expect(encode(linear2, {}, [FLT_MAX, 1]).nonFinite).toBe(0);
  });

  it("are flat where a scale has no reciprocal", () => {
    const tiny = encode(linear2, {}, [2 ** -129, -(2 ** -149), 0]);
    expect(tiny).toMatchObject({ nonFinite: 0, clamped: 0 });
    expect(decode(linear2, {}, tiny.payload, 3)).toEqual([0, 0, 0]);
    const affine = encode(linear2, { mode: "affine" }, [2 ** -130, 2 ** -140]);
    expect(decode(linear2, { mode: "affine" }, affine.payload, 2)).toEqual([2 ** -140, 2 ** -140]);
  });

  it("clamp to a shared scale's levels, and count that", () => {
    const values = [1, -1, 1.25, 3.4e38, -3.4e38, Number.NaN, Number.NEGATIVE_INFINITY, 0.5];
    const { payload, scaleBytes, nonFinite, clamped } = encode(linear3, { scale: 0.5 }, values);
    expect({ scaleBytes, nonFinite, clamped, bytes: payload.length }).toEqual({
      scaleBytes: 0,
      nonFinite: 2,
      clamped: 2,
      bytes: 3,
    });
    expect(decode(linear3, { scale: 0.5 }, payload, 8)).toEqual([1, -1, 1, 1.5, -1.5, 0, 0, 0.5]);
    // Overflows on its way to a level.
    expect(encode(linear8, { scale: 2 ** -126 }, [1e38]).clamped).toBe(1);
    expect(encode(linear8, { scale: 2 ** -126, rounding: "stochastic", seed: SEED }, [-1e38]).clamped).toBe(
      1,
    );
  });
});

it("errors do not repeat what has no end", () => {
  const given = { name: "linear8", scale: new Array(5000).fill("x") } as unknown as CodecSpec;
  expect(() => linear8.resolve(given)).toThrow(/, not an object$/);
});

describe("stochastic rounding", () => {
  const given = { scale: 1, rounding: "stochastic", seed: SEED } as const;

  it("needs a seed to encode, and none to decode", () => {
    const unseeded = { scale: 1, rounding: "stochastic" } as const;
    expect(() => encode(linear8, unseeded, [1])).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("a transfer draws one"),
      }),
    );
    expect(decode(linear8, unseeded, Uint8Array.of(130), 1)).toEqual([3]);
    expect(() => encode(linear8, given, [1], -4)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });

  it("goes up where the element's word says so", () => {
    // Counter e / 4 and the hash of the name, key the seed; word e mod 4.
    const first = 2 ** 34 + 2;
    const hash = xxh64(new TextEncoder().encode("w"));
    const upper = [Number(hash & 0xffffffffn), Number(hash >> 32n)] as const;
    const words = [0, 1, 2, 3].flatMap((group) => {
      const four = new Uint32Array(4);
      philox4x32([0x89abcdef, 0x01234567], [group, 1, ...upper], four);
      return [...four];
    });
    const values = Array.from({ length: 12 }, (_, i) => i - 6 + (i + 0.5) / 12);
    const expected = values.map((value, i) => {
      const fraction = Math.fround(Math.fround(value) - Math.floor(value));
      return Math.floor(value) + (words[i + 2]! >>> 8 < fraction * 2 ** 24 ? 1 : 0);
    });
    const { payload } = encode(linear8, given, values, first);
    expect([...payload].map((code) => code - 127)).toEqual(expected);
    expect(new Set(expected.map((q, i) => q - Math.floor(values[i]!)))).toEqual(new Set([0, 1]));
  });

  it("leaves whole levels alone, and values just below one at it", () => {
    const values = [0, -0, 5, -7, -(2 ** -30), -(2 ** -149)];
    const { payload } = encode(linear8, given, values, 0);
    expect([...payload].map((code) => code - 127)).toEqual([0, 0, 5, -7, 0, 0]);
  });

  /** Root mean square, over the elements, of what the mean of so many clients is off. */
  function errorOfMean(clients: number, rounding: "nearest" | "stochastic"): number {
    const random = pseudoRandom(5);
    const values = Float32Array.from({ length: 4096 }, () => random() - 0.5);
    const sums = new Float64Array(values.length);
    for (let client = 0; client < clients; client++) {
      const seed = (client + 1).toString(16).padStart(16, "0");
      const spec = { rounding, ...(rounding === "stochastic" && { seed }) };
      const back = decode(linear2, spec, encode(linear2, spec, [...values], 0).payload, values.length);
      back.forEach((value, i) => {
        sums[i]! += value;
      });
    }
    const squares = sums.map((sum, i) => (sum / clients - values[i]!) ** 2);
    return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / values.length);
  }

  it("makes the error of the mean over N clients fall as 1 / √N, which rounding to nearest does not", () => {
    const one = errorOfMean(1, "stochastic");
    for (const clients of [4, 16, 64]) {
      const expected = one / Math.sqrt(clients);
      expect(Math.abs(errorOfMean(clients, "stochastic") / expected - 1), `${clients} clients`).toBeLessThan(
        0.05,
      );
    }
    expect(errorOfMean(64, "nearest")).toBeCloseTo(errorOfMean(1, "nearest"), 12);
  });
});

it("all linear codecs are known by name", () => {
  for (const codec of codecs) expect(defaultCodecs.get(codec.name)).toBe(codec);
});
