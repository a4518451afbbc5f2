import { describe, expect, it } from "vitest";
import { adaquant, type CodecSpec, DTYPE_BITS, type DType } from "../src/index.js";
import { codecSuite, encodeFloats, ordinary } from "../src/testing/index.js";

/** The rule of docs/codecs.md, once more. */
function bitsOf(norm: number, dtype: DType, weight: number): number {
  const levels = Math.max(1, Math.ceil(Math.sqrt((norm * DTYPE_BITS[dtype] * Math.log(4)) / weight)));
  return Math.max(1, Math.ceil(Math.log2(levels)));
}

codecSuite(adaquant, {
  specs: [{}, { weight: 1e-6 }, { weight: 1e-12 }, { weight: 1e30 }].map((given) => ({
    name: "adaquant",
    ...given,
  })),
  chunked: "nothing",
  errorBound: (value, { least, largest }, { spec, dtype }) => {
    const norm = largest - least;
    const step = norm === 0 ? 0 : norm / (2 ** bitsOf(norm, dtype, spec.weight ?? 0.01) - 1);
    return step * (0.5 + 2 ** -20) + Math.abs(value) * 2 ** -23 + 2 ** -149;
  },
});

function encode(given: Omit<CodecSpec, "name">, dtype: "F32" | "F64", values: readonly number[]) {
  const spec = { name: "adaquant", ...given };
  const target = new Uint8Array(adaquant.payloadBytes(spec, dtype, values.length)).fill(0xa5);
  const array = dtype === "F64" ? Float64Array.from(values) : Float32Array.from(values);
  const encoded = adaquant.encode(spec, dtype, values.length, new Uint8Array(array.buffer), target);
  const head = new DataView(target.buffer);
  return {
    ...encoded,
    payload: target.subarray(0, encoded.bytes),
    least: head.getFloat64(0, true),
    norm: head.getFloat64(8, true),
    bits: head.getUint32(16, true),
  };
}

describe("adaquant", () => {
  it("takes a weight that is positive and finite", () => {
    expect(adaquant.resolve({ name: "adaquant" })).toEqual({ name: "adaquant", weight: 0.01 });
    expect(adaquant.resolve({ name: "adaquant", weight: 5 })).toEqual({ name: "adaquant", weight: 5 });
    for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, "1", null, true]) {
      expect(() => adaquant.resolve({ name: "adaquant", weight } as unknown as CodecSpec)).toThrow(
        "takes a weight",
      );
    }
  });

  it("has as many bits as the spread is worth", () => {
    // 32 bits × log(4) / 0.01 = 4436.1 for a spread of 1: 66.6, so 67 levels, and 7 bits.
    const { least, norm, bits, payload, scaleBytes } = encode({}, "F32", [-0.5, 0.5, 0, 0.25]);
    expect({ least, norm, bits, scaleBytes }).toEqual({ least: -0.5, norm: 1, bits: 7, scaleBytes: 24 });
    // 63.5 to the even 64; 95.25 to 95.
    expect([...payload.subarray(20)]).toEqual([0, 0, 0, 0, 0, 127, 64, 95]);
    expect(encode({}, "F64", [-0.5, 0.5]).bits).toBe(7);
    expect(encode({ weight: 1e9 }, "F32", [0, 1]).bits).toBe(1);
    expect(encode({ weight: 1e-4 }, "F32", [0, 1])).toMatchObject({ bits: 10, bytes: 28 });
    expect(encode({ weight: 1e-9 }, "F64", [0, 1])).toMatchObject({ bits: 19, bytes: 32 });
  });

  it("has no codes where all elements are equal, and no negative zero", () => {
    for (const values of [[3], [3, 3, 3]]) {
      expect(encode({}, "F32", values)).toMatchObject({ least: 3, norm: 0, bits: 0, bytes: 24 });
    }
    for (const values of [
      [-0, 0],
      [-0, -0],
    ]) {
      const { least, norm } = encode({}, "F32", values);
      expect([least, norm]).toEqual([0, 0]);
    }
    const none = adaquant.encode({ name: "adaquant" }, "F32", 0, new Uint8Array(), new Uint8Array());
    expect(none).toEqual({ bytes: 0, scaleBytes: 0, nonFinite: 0, clamped: 0 });
  });

  it("declines where codes would be no shorter, and writes nothing", () => {
    const declined = encode({ weight: 1e-9 }, "F32", [0, 1]);
    expect(declined).toMatchObject({ bytes: 0, scaleBytes: 0, declined: true });
    expect(encode({ weight: Number.MIN_VALUE }, "F64", [0, 1]).declined).toBe(true);
    const spec = { name: "adaquant", weight: 1e-4 };
    const target = new Uint8Array(adaquant.payloadBytes(spec, "BF16", 2)).fill(0xa5);
    const source = encodeFloats("BF16", Float32Array.of(0, 1));
    expect(adaquant.encode(spec, "BF16", 2, source, target)).toMatchObject({ declined: true });
    expect(target.every((byte) => byte === 0xa5)).toBe(true);
  });

  it("announces every size that a payload can have", () => {
    const sizes = (dtype: DType) => adaquant.payloadSizes!({ name: "adaquant" }, dtype, 100);
    expect([sizes("F16"), sizes("F32"), sizes("F64")]).toEqual([
      [24, 124],
      [24, 124, 224],
      [24, 124, 224, 424],
    ]);
    expect(adaquant.payloadSizes!({ name: "adaquant" }, "F64", 0)).toEqual([0]);
  });

  it("keeps doubles double", () => {
    const values = [1 + 2 ** -40, 2, 1.5];
    const { payload } = encode({}, "F64", values);
    const back = new Float64Array(3);
    adaquant.decode({ name: "adaquant" }, "F64", 3, payload, "F64", new Uint8Array(back.buffer));
    expect([back[0], back[1]]).toEqual([values[0], values[1]]);
  });

  it("puts zero in the place of what is not finite, a double beyond float32 among it", () => {
    const { nonFinite, least, norm } = encode({}, "F64", [1, 1e39, Number.NaN, 2]);
    expect({ nonFinite, least, norm }).toEqual({ nonFinite: 2, least: 0, norm: 2 });
  });

  const head = (least: number, norm: number, bits: number, rest: number, codes: number) => {
    const payload = new Uint8Array(24 + codes);
    const view = new DataView(payload.buffer);
    view.setFloat64(0, least, true);
    view.setFloat64(8, norm, true);
    view.setUint32(16, bits, true);
    view.setUint32(20, rest, true);
    return payload;
  };

  it.each<[string, Uint8Array]>([
    ["least value", head(Number.NaN, 1, 8, 0, 4)],
    ["least value", head(Number.NEGATIVE_INFINITY, 1, 8, 0, 4)],
    ["spread", head(0, -1, 8, 0, 4)],
    ["spread", head(0, Number.NaN, 8, 0, 4)],
    ["spread", head(0, Number.POSITIVE_INFINITY, 8, 0, 4)],
    ["33 bits", head(0, 1, 33, 0, 4)],
    ["last word", head(0, 1, 8, 1, 4)],
    ["codes of 9 bits", head(0, 1, 9, 0, 4)],
    ["codes of 8 bits", head(0, 1, 8, 0, 8)],
    ["codes of 0 bits", head(0, 1, 0, 0, 4)],
    ["codes of 1 bits", head(0, 1, 1, 0, 0)],
    ["codes of 17 bits", head(0, 1, 17, 0, 8)],
  ])("refuses a payload for its %s", (message, payload) => {
    expect(() => {
      adaquant.decode({ name: "adaquant" }, "F32", 4, payload, "F32", new Uint8Array(16));
    }).toThrow(
      expect.objectContaining({ code: "PAYLOAD_INVALID", message: expect.stringContaining(message) }),
    );
  });

  it("decodes codes that no encoder makes", () => {
    const back = new Float32Array(1);
    const payload = head(1, 2, 1, 0, 1);
    payload[24] = 255;
    adaquant.decode({ name: "adaquant" }, "F32", 1, payload, "F32", new Uint8Array(back.buffer));
    expect(back[0]).toBe(511);
  });

  it("is shorter than the source on weights", () => {
    const { payload, bits } = encode({}, "F32", [...new Float32Array(ordinary("F32", 4096, 1).buffer)]);
    expect({ bits, bytes: payload.length }).toEqual({ bits: 5, bytes: 24 + 4096 });
  });
});
