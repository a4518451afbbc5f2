import { addressOffset } from "@tensorwire/quant-native";
import { expect, it } from "vitest";
import { describeNative } from "./instruction-sets.js";

describeNative("addressOffset", () => {
  it("tells where in a cache line and in a page a buffer begins", () => {
    for (const bytes of [64, 1000, 1 << 20, 4 << 20]) {
      const buffer = new ArrayBuffer(bytes);
      const inPage = addressOffset(buffer, 4096)!;
      expect(inPage).toBeGreaterThanOrEqual(0);
      expect(inPage).toBeLessThan(4096);
      expect(addressOffset(buffer, 64)).toBe(inPage % 64);
      expect(addressOffset(buffer, 1)).toBe(0);
    }
  });

  it("refuses what is no ArrayBuffer, and a modulo that is no power of two", () => {
    const refused = (buffer: unknown, modulo: unknown) =>
      expect(() => addressOffset(buffer as ArrayBuffer, modulo as number)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    refused(new Uint8Array(64), 64);
    refused(undefined, 64);
    for (const modulo of [0, 3, -64, 0.5, 2 ** 31, Number.NaN]) refused(new ArrayBuffer(64), modulo);
  });
});
