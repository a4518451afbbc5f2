import { BlockCodec } from "./block-codec.js";
import { DYNAMIC8, DYNAMIC8_THRESHOLDS } from "./codebook.js";
import { LevelSearch } from "./level-search.js";

/** bitsandbytes' 8-bit blockwise format over its signed dynamic map (arXiv 2110.02861). */
export const blockwise8 = new BlockCodec({
  name: "blockwise8",
  id: 3,
  defaultBlock: 4096,
  minBlock: 64,
  levels: new LevelSearch(
    DYNAMIC8_THRESHOLDS,
    DYNAMIC8.map((_, code) => code),
    0,
  ),
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
