import { BlockCodec } from "./block-codec.js";
import { NF4, NF4_THRESHOLDS } from "./codebook.js";
import { fourBit } from "./four-bit.js";
import { LevelSearch } from "./level-search.js";

/** bitsandbytes' NF4: 16 levels at the quantiles of a normal distribution (QLoRA, arXiv 2305.14314). */
export const normfloat4 = new BlockCodec({
  ...fourBit,
  name: "normfloat4",
  id: 5,
  levels: new LevelSearch(
    NF4_THRESHOLDS,
    NF4.map((_, code) => code),
    0,
  ),
  values: NF4,
});
