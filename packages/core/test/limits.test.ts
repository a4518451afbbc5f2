import { describe, expect, it } from "vitest";
import { checkLimit, DEFAULT_LIMITS, type Limits, resolveLimits } from "../src/index.js";

const NAMES = Object.keys(DEFAULT_LIMITS) as (keyof Limits)[];
const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" });

describe("limits", () => {
  it("are the defaults, with the given ones in their place", () => {
    expect(resolveLimits()).toEqual(DEFAULT_LIMITS);
    for (const name of NAMES) {
      expect(resolveLimits({ [name]: 7 })).toEqual({ ...DEFAULT_LIMITS, [name]: 7 });
    }
  });

  it("cannot be changed for everybody", () => {
    expect(Object.isFrozen(DEFAULT_LIMITS)).toBe(true);
    const limits = resolveLimits() as { maxTensors: number };
    limits.maxTensors = 1;
    expect(resolveLimits().maxTensors).toBe(1_000_000);
  });

  it.each([0, -1, 1.5, Number.NaN, Infinity, 2 ** 53, "5", null, undefined, 5n])("refuse %s", (value) => {
    for (const name of NAMES) {
      const given = { [name]: value } as unknown as Partial<Limits>;
      expect(() => resolveLimits(given)).toThrow(invalid);
      expect(() => resolveLimits(given)).toThrow(name);
    }
  });

  it.each(["maxTensor", "toString", "__proto__"])("refuse a name that there is not: %s", (name) => {
    const given = JSON.parse(`{"${name}":5}`) as Partial<Limits>;
    expect(() => resolveLimits(given)).toThrow(invalid);
    expect(() => resolveLimits(given)).toThrow(name);
  });

  it("let pass what is at the limit, and refuse one more, naming the limit and its value", () => {
    for (const name of NAMES) {
      const limit = DEFAULT_LIMITS[name];
      for (const value of [0, 1, limit, BigInt(limit)]) checkLimit(DEFAULT_LIMITS, name, value, "it");
      for (const value of [limit + 1, BigInt(limit) + 1n, 2n ** 64n]) {
        const refusal = expect.objectContaining({ code: "LIMIT_EXCEEDED", retryable: false });
        const check = () => checkLimit(DEFAULT_LIMITS, name, value, "the thing");
        expect(check).toThrow(refusal);
        expect(check).toThrow(`the thing is ${value}, over the limit ${name} = ${limit}`);
      }
    }
  });

  it("agree with one another", () => {
    // A chunk of the largest size, sent as it is, fits in a frame; a manifest and a control frame do too.
    expect(DEFAULT_LIMITS.maxChunkBytes).toBeLessThan(DEFAULT_LIMITS.maxFrameBytes);
    expect(DEFAULT_LIMITS.maxFrameBytes).toBeLessThan(2 ** 32);
    expect(DEFAULT_LIMITS.maxManifestBytes).toBeLessThan(2 ** 32);
    expect(DEFAULT_LIMITS.maxModelBytes).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER);
    // WANT names chunks in 32 bits.
    expect(DEFAULT_LIMITS.maxChunks).toBeLessThan(2 ** 32);
  });
});
