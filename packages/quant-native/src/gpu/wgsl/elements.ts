import type { DType } from "@tensorwire/core";

/** Dtypes whose elements kernels read and write: WGSL has no doubles. */
export const DEVICE_DTYPES = ["F32", "F16", "BF16"] as const;
export type DeviceDType = (typeof DEVICE_DTYPES)[number];

export function isDeviceDType(dtype: DType): dtype is DeviceDType {
  return (DEVICE_DTYPES as readonly string[]).includes(dtype);
}

const half = (widen: string) => /* wgsl */ `
fn load(i: u32) -> u32 {
  let at = parameters.first + i;
  return ${widen}((source[at >> 1u] >> (16u * (at & 1u))) & 0xffffu);
}
`;

/** `load`: element i of the chunk, as a float's bits. */
export const LOAD: Readonly<Record<DeviceDType, string>> = {
  F32: /* wgsl */ `
fn load(i: u32) -> u32 { return source[parameters.first + i]; }
`,
  F16: half("halfToFloat"),
  BF16: half("brainToFloat"),
};

/** Elements that an invocation decodes one after the other. */
export const GROUP = 8;

const halves = (narrow: string) => /* wgsl */ `
fn store(i: u32, values: array<u32, ${GROUP}>) {
  for (var k = 0u; k < ${GROUP}u && i + k < parameters.elements; k += 2u) {
    // What the last word is short of an element is zero.
    let next = select(0u, ${narrow}(values[k + 1u]), i + k + 1u < parameters.elements);
    target_words[parameters.first + ((i + k) >> 1u)] = ${narrow}(values[k]) | (next << 16u);
  }
}
`;

/** `store`: eight elements from i on, of floats' bits, as far as the chunk goes. */
export const STORE: Readonly<Record<DeviceDType, string>> = {
  F32: /* wgsl */ `
fn store(i: u32, values: array<u32, ${GROUP}>) {
  for (var k = 0u; k < ${GROUP}u && i + k < parameters.elements; k++) {
    target_words[parameters.first + i + k] = values[k];
  }
}
`,
  F16: halves("floatToHalf"),
  BF16: halves("floatToBrain"),
};
