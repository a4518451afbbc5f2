/** The largest error of a guess that is still mended, in units of the last place: WGSL allows 2.5. */
export const MENDED_ULPS = 8;

/**
 * The reciprocal of a scale, rounded to nearest. The device's division, which may be 2.5 units of the last place off, is
 * but a guess: with M the scale's significand and R the guess, the error 2^47 − R × M is known exactly in 32 bits that
 * wrap, and R goes up or down by one until twice the error is within M. (A tie there is none, but for powers of two.)
 * @param error added to each guess, in units of the last place, as an expression: for tests, since software drivers
 * divide exactly.
 */
export function reciprocalOf(error = "0"): string {
  return /* wgsl */ `
// Of a magnitude. Where it is zero, or so small that its reciprocal is beyond binary32, infinity.
fn reciprocal(scale: u32) -> u32 {
  if (scale <= 0x200000u) { return INFINITY; }
  if (scale >= INFINITY) { return 0u; }
  let s = significand(scale);
  if (s.bits == 0x800000u) { return rounded(0u, -s.exponent - 23, 1u, false); }
  var guess = i32(140737488355328.0 / f32(s.bits)) + ${error};
  var error = -bitcast<i32>(u32(guess) * s.bits);
  let m = i32(s.bits);
  for (var i = 0; i < ${MENDED_ULPS}; i++) {
    if (2 * error > m) {
      guess += 1;
      error -= m;
    } else if (2 * error < -m) {
      guess -= 1;
      error += m;
    }
  }
  // A subnormal reciprocal is rounded once more: by the guess with its error, which is under half of its last place.
  return rounded(0u, -47 - s.exponent - 2, u32(4 * guess + sign(error)), error != 0);
}
`;
}
