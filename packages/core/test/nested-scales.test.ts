import { describe, expect, it } from "vitest";
import { nestedBytes, normfloat4, ScaleMean } from "../src/index.js";
import { encodeFloats, pseudoRandom } from "../src/testing/index.js";

describe("ScaleMean", () => {
  it("adds in sixteen lanes, then folds them in halves, each sum a float32", () => {
    const random = pseudoRandom(3);
    const scales = Array.from({ length: 1001 }, () => Math.fround(random() * 2 ** Math.floor(random() * 30)));
    const mean = new ScaleMean();
    for (const scale of scales) mean.add(scale);
    const add = (a: number, b: number) => Math.fround(a + b);
    const lanes = Array.from({ length: 16 }, (_, lane) =>
      scales.filter((_, i) => i % 16 === lane).reduce(add, 0),
    );
    const eight = Array.from({ length: 8 }, (_, i) => add(lanes[i]!, lanes[i + 8]!));
    const four = Array.from({ length: 4 }, (_, i) => add(eight[i]!, eight[i + 4]!));
    const sum = add(add(four[0]!, four[2]!), add(four[1]!, four[3]!));
    expect(mean.offset()).toBe(Math.fround(sum / 1001));
    // Another order gives another sum.
    expect(sum).not.toBe(scales.reduce(add, 0));
  });

  it("is zero where it would not be finite", () => {
    for (const scales of [
      [Number.POSITIVE_INFINITY],
      [3e38, 3e38, ...new Array(14).fill(0), 3e38],
      [Number.NaN],
    ]) {
      const mean = new ScaleMean();
      for (const scale of scales) mean.add(scale);
      expect(mean.offset()).toBe(0);
    }
  });
});

describe("nested scales", () => {
  const spec = { name: "normfloat4", block: 32, nested: true };

  it("take an offset, a scale for each 256, and a byte each; nothing where there are none", () => {
    expect([0, 1, 256, 257].map(nestedBytes)).toEqual([0, 9, 264, 269]);
    expect(normfloat4.payloadBytes(spec, "F32", 0)).toBe(0);
  });

  it("are differences from the mean", () => {
    // Scales 1, 2 and 3: the mean is 2, the differences −1, 0 and 1 have the codes of −0.993, 0 and 1.
    const values = [1, 2, 3].flatMap((scale) => [scale, ...new Array<number>(31).fill(0)]);
    const payload = new Uint8Array(normfloat4.payloadBytes(spec, "F32", 96));
    const source = encodeFloats("F32", Float32Array.from(values));
    expect(normfloat4.encode(spec, "F32", 96, source, payload).scaleBytes).toBe(11);
    expect([...new Float32Array(payload.slice(0, 8).buffer)]).toEqual([2, 1]);
    expect([...payload.subarray(8, 11)]).toEqual([0, 127, 255]);
    const back = new Float32Array(96);
    normfloat4.decode(spec, "F32", 96, payload, "F32", new Uint8Array(back.buffer));
    expect([back[0], back[32], back[64]]).toEqual([Math.fround(2 - Math.fround(0.9929687976837158)), 2, 3]);
  });
});
