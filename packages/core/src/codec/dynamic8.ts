import { DYNAMIC8, DYNAMIC8_THRESHOLDS } from "./codebook.js";
import { LevelSearch } from "./level-search.js";

/** The codes of bitsandbytes' signed dynamic map: of `blockwise8`, and of scales that are nested. */
export const dynamic8 = new LevelSearch(
  DYNAMIC8_THRESHOLDS,
  DYNAMIC8.map((_, code) => code),
  0,
);
