import { f32ToBf16Bits } from "./float-bits.js";
import { HalfCodec } from "./half-codec.js";

/**
 * bfloat16: the upper half of a float32, rounded to nearest even. Finite values that round to infinity count as not
 * finite, since clamping them would need a range that float32 itself has.
 */
export const bfloat16 = new HalfCodec({
  name: "bfloat16",
  id: 2,
  dtype: "BF16",

  narrow(bits, halves, found) {
    for (let i = 0; i < bits.length; i++) {
      const half = f32ToBf16Bits(bits[i]!);
      halves[i] = half;
      if ((half & 0x7f80) === 0x7f80) found.nonFinite++;
    }
  },
});
