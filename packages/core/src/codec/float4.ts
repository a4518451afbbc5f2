import { BlockCodec } from "./block-codec.js";
import { FP4, FP4_CODES, FP4_THRESHOLDS } from "./codebook.js";
import { fourBit } from "./four-bit.js";
import { LevelSearch } from "./level-search.js";

const SMALLEST_SUBNORMAL = 2 ** -149;

// The format compares magnitudes, strictly, and takes the sign from x < 0. As ascending thresholds over signed values:
// x < -t fails from -t upwards, which is "greater than the float below -t", and x < 0 fails above -2^-149.
const negative = [...FP4_THRESHOLDS].reverse().map((threshold) => -nextUp(threshold));

/** bitsandbytes' FP4: a sign and eight magnitudes from 0 to 1. */
export const float4 = new BlockCodec({
  ...fourBit,
  name: "float4",
  id: 4,
  levels: new LevelSearch(
    [...negative, -SMALLEST_SUBNORMAL, ...FP4_THRESHOLDS],
    [...[...FP4_CODES].reverse().map((code) => code + 8), ...FP4_CODES],
    // A NaN takes the code of zero, which has the eighth rank from below.
    FP4_CODES.length,
  ),
  values: FP4,
});

/** The smallest float32 above a positive one. */
function nextUp(value: number): number {
  const float = Float32Array.of(value);
  const bits = new Uint32Array(float.buffer);
  bits[0]! += 1;
  return float[0]!;
}
