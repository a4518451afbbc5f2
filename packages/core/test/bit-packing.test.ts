import { describe, expect, it } from "vitest";
import { packBits, unpackBits } from "../src/index.js";
import { pseudoRandom } from "../src/testing/index.js";

describe("packed codes", () => {
  it("lie one behind the other, the lowest bit first, for every width", () => {
    const random = pseudoRandom(1);
    for (let bits = 1; bits <= 8; bits++) {
      for (const count of [0, 1, 2, 7, 8, 9, 40, 41]) {
        const codes = Uint8Array.from({ length: count }, () => random() * 2 ** bits);
        const packed = new Uint8Array(Math.ceil((count * bits) / 8) + 2).fill(0xa5);
        packBits(codes, count, bits, packed, 1);
        const digits = [...codes]
          .map((code) => [...code.toString(2).padStart(bits, "0")].reverse().join(""))
          .join("");
        const bytes =
          digits.match(/.{1,8}/g)?.map((byte) => Number.parseInt([...byte].reverse().join(""), 2)) ?? [];
        expect([...packed]).toEqual([0xa5, ...bytes, 0xa5]);
        const back = new Uint8Array(count);
        unpackBits(packed, 1, bits, back, count);
        expect(back).toEqual(codes);
      }
    }
  });
});
