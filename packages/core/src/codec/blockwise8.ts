import { BlockCodec } from "./block-codec.js";
import { DYNAMIC8 } from "./codebook.js";
import { dynamic8 } from "./dynamic8.js";

/** bitsandbytes' 8-bit blockwise format over its signed dynamic map (arXiv 2110.02861). */
export const blockwise8 = new BlockCodec({
  name: "blockwise8",
  id: 3,
  defaultBlock: 4096,
  minBlock: 64,
  nests: false,
  levels: dynamic8,
  values: DYNAMIC8,

  codeBytes(elements) {
    return elements;
  },

  pack(codes, count, target, at) {
    target.set(codes.subarray(0, count), at);
  },

  unpack(payload, at, codes, count) {
    codes.set(payload.subarray(at, at + count));
  },
});
