import { expect, it } from "vitest";
import { byteLength, DTYPE_BITS, type DType, differingElements } from "../src/index.js";

const whole = (Object.keys(DTYPE_BITS) as DType[]).filter((dtype) => DTYPE_BITS[dtype] >= 8);

it.each(whole)("counts elements of %s, however many of their bytes differ", (dtype) => {
  const a = Uint8Array.from({ length: byteLength(dtype, 40) }, (_, i) => i * 37);
  const b = a.slice();
  expect(differingElements(dtype, { bytes: a, first: 0 }, { bytes: b, first: 0 }, 40)).toBe(0);
  const width = DTYPE_BITS[dtype] / 8;
  for (const element of [3, 17, 39]) for (let k = 0; k < width; k++) b[element * width + k]! ^= 1 << (k % 8);
  expect(differingElements(dtype, { bytes: a, first: 0 }, { bytes: b, first: 0 }, 40)).toBe(3);
  expect(differingElements(dtype, { bytes: a, first: 17 }, { bytes: b, first: 17 }, 22)).toBe(1);
  expect(differingElements(dtype, { bytes: a, first: 4 }, { bytes: a, first: 4 }, 36)).toBe(0);
});

it("tells elements apart that share a byte", () => {
  const a = new Uint8Array(6);
  const differing = (dtype: DType, bytes: number[], elements: number): number =>
    differingElements(dtype, { bytes: a, first: 0 }, { bytes: Uint8Array.from(bytes), first: 0 }, elements);
  expect(differing("F4", [0x01, 0x10, 0x11, 0, 0, 0], 12)).toBe(4);
  // Six bits each: the second element lies in two bytes.
  expect(differing("F6_E2M3", [0x40, 0x08, 0, 0, 0, 0], 8)).toBe(1);
  expect(differing("F6_E3M2", [0x3f, 0xf0, 0xff, 0, 0, 0x80], 8)).toBe(4);
});
