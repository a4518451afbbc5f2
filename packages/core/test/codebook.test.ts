import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  DYNAMIC8,
  DYNAMIC8_MIDPOINTS,
  DYNAMIC8_THRESHOLDS,
  FP4,
  FP4_CODES,
  FP4_THRESHOLDS,
  NF4,
  NF4_THRESHOLDS,
} from "../src/index.js";
import { vectorBytes, vectorIndex } from "./vectors.js";

function bytes(table: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(table).buffer);
}

describe("codebooks", () => {
  it.each([
    ["dynamic8", DYNAMIC8],
    ["dynamic8_midpoints", DYNAMIC8_MIDPOINTS],
    ["nf4", NF4],
    ["nf4_thresholds", NF4_THRESHOLDS],
    ["fp4", FP4],
    ["fp4_thresholds", FP4_THRESHOLDS],
  ])("%s is bitsandbytes' bit for bit", (name, table) => {
    expect(bytes(table)).toEqual(vectorBytes(vectorIndex.codebooks[name]!));
    // Numbers that a float32 does not hold exactly would be rounded just above.
    expect(table.every((value) => Object.is(Math.fround(value), value))).toBe(true);
  });

  it("dynamic8 has the published hash", () => {
    expect(createHash("sha256").update(bytes(DYNAMIC8)).digest("hex")).toBe(
      "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
    );
  });

  it("dynamic8 mirrors around its zero, and has no -1", () => {
    expect(Object.is(DYNAMIC8[127], 0)).toBe(true);
    expect(DYNAMIC8[255]).toBe(1);
    for (let k = 0; k < 127; k++) expect(DYNAMIC8[254 - k]).toBe(-DYNAMIC8[k]!);
    expect(DYNAMIC8).not.toContain(-1);
  });

  it("dynamic8 thresholds give a tie to the even code", () => {
    for (let i = 0; i < 255; i++) {
      const code = DYNAMIC8_THRESHOLDS.filter((threshold) => DYNAMIC8_MIDPOINTS[i]! > threshold).length;
      expect(code).toBe(i % 2 === 0 ? i : i + 1);
    }
  });

  it("fp4 codes are ranked by magnitude", () => {
    const magnitudes = FP4_CODES.map((code) => FP4[code]!);
    expect(magnitudes).toEqual([...magnitudes].sort((a, b) => a - b));
    expect(Object.is(FP4[8], -0)).toBe(true);
  });
});
