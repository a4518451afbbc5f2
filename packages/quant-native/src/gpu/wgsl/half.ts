/** 16-bit floats by integers, as core's `float-bits` has them: `shader-f16` is not everywhere. */
export const HALF = /* wgsl */ `
fn halfToFloat(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let magnitude = half & 0x7fffu;
  if (magnitude > 0x7c00u) { return sign | NOT_A_NUMBER | (magnitude << 13u); }
  if (magnitude == 0x7c00u) { return sign | INFINITY; }
  if (magnitude >= 0x400u) { return sign | ((magnitude << 13u) + 0x38000000u); }
  if (magnitude == 0u) { return sign; }
  let lead = countLeadingZeros(magnitude) - 21u;
  return sign | ((113u - lead) << 23u) | ((magnitude << (13u + lead)) & 0x7fffffu);
}

fn floatToHalf(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & MAGNITUDE;
  if (magnitude > INFINITY) { return sign | 0x7e00u | ((magnitude >> 13u) & 0x3ffu); }
  if (magnitude >= 0x47800000u) { return sign | 0x7c00u; }
  if (magnitude >= 0x38800000u) {
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude <= 0x33000000u) { return sign; }
  let significand = (magnitude & 0x7fffffu) | 0x800000u;
  let shift = 126u - (magnitude >> 23u);
  let tie = (1u << (shift - 1u)) - 1u + ((significand >> shift) & 1u);
  return sign | ((significand + tie) >> shift);
}

fn brainToFloat(half: u32) -> u32 { return half << 16u; }

fn floatToBrain(bits: u32) -> u32 {
  if ((bits & MAGNITUDE) > INFINITY) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
`;
