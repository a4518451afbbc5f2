import { f32ToF16Bits } from "./float-bits.js";
import { HalfCodec } from "./half-codec.js";

/**
 * IEEE binary16, rounded to nearest even. Finite values that would round to infinity are clamped to ±65504 and counted,
 * as NVFlare clamps them; values that round to 65504 are not clamped.
 */
export const float16 = new HalfCodec({
  name: "float16",
  id: 1,
  dtype: "F16",

  narrow(bits, halves, found) {
    for (let i = 0; i < bits.length; i++) {
      const half = f32ToF16Bits(bits[i]!);
      halves[i] = half;
      if ((half & 0x7c00) !== 0x7c00) continue;
      if ((bits[i]! & 0x7f800000) === 0x7f800000) {
        found.nonFinite++;
      } else {
        halves[i] = (half & 0x8000) | 0x7bff;
        found.clamped++;
      }
    }
  },
});
