import type { BlockFormat } from "./block-codec.js";

/**
 * What the 4-bit formats have in common. Two codes share a byte: the element with the even index in the high nibble, as
 * bitsandbytes packs them.
 */
export const fourBit: Pick<
  BlockFormat,
  "defaultBlock" | "minBlock" | "nests" | "codeBytes" | "pack" | "unpack"
> = {
  defaultBlock: 64,
  minBlock: 32,
  nests: true,

  codeBytes(elements) {
    return Math.ceil(elements / 2);
  },

  pack(codes, count, target, at) {
    for (let i = 0; i < count; i += 2) target[at++] = (codes[i]! << 4) | codes[i + 1]!;
  },

  unpack(payload, at, codes, count) {
    // With an odd count the padding's code lands behind the last one, where nothing reads it.
    for (let i = 0; i < count; i += 2) {
      const pair = payload[at++]!;
      codes[i] = pair >>> 4;
      codes[i + 1] = pair & 15;
    }
  },
};
