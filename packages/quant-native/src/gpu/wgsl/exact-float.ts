/**
 * binary32 arithmetic on bit patterns, rounded to nearest, ties to even, with subnormals, infinities and signed zeros as
 * IEEE 754 has them. WGSL leaves to the device which neighbour a product is rounded to, whether subnormals are zeros,
 * and whether a product and a sum become one rounding; what it says of integers is exact. So no bit that is sent or
 * decoded comes of a device's floats.
 */
export const EXACT_FLOAT = /* wgsl */ `
const SIGN = 0x80000000u;
const MAGNITUDE = 0x7fffffffu;
const INFINITY = 0x7f800000u;
const NOT_A_NUMBER = 0x7fc00000u;

// A finite magnitude above zero: bits × 2^exponent, its leading bit in place 23.
struct Significand { bits: u32, exponent: i32 }

fn significand(magnitude: u32) -> Significand {
  if (magnitude < 0x800000u) {
    let shift = countLeadingZeros(magnitude) - 8u;
    return Significand(magnitude << shift, -149 - i32(shift));
  }
  return Significand((magnitude & 0x7fffffu) | 0x800000u, i32(magnitude >> 23u) - 150);
}

// The binary32 nearest to (bits + a fraction) × 2^exponent, where a fraction that is not zero is said to be "more".
// Bits are below 2^31; there are at least two more than a significand has where there is a fraction.
fn rounded(sign: u32, exponent: i32, bits: u32, more: bool) -> u32 {
  let lead = 31 - i32(countLeadingZeros(bits));
  let biased = exponent + lead + 127;
  if (biased > 254) { return sign | INFINITY; }
  let dropped = lead - 23 + max(1 - biased, 0);
  let upper = u32(max(biased, 1) - 1) << 23u;
  if (dropped <= 0) { return sign | (upper + (bits << u32(-dropped))); }
  if (dropped > 31) { return sign; }
  let kept = bits >> u32(dropped);
  let rest = bits & ((1u << u32(dropped)) - 1u);
  let half = 1u << u32(dropped - 1);
  let up = rest > half || (rest == half && (more || (kept & 1u) == 1u));
  // A carry goes into the exponent, and from the last one into infinity.
  return sign | (upper + kept + select(0u, 1u, up));
}

fn product(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & SIGN;
  let x = a & MAGNITUDE;
  let y = b & MAGNITUDE;
  if (x >= INFINITY || y >= INFINITY) {
    if (x > INFINITY || y > INFINITY || x == 0u || y == 0u) { return NOT_A_NUMBER; }
    return sign | INFINITY;
  }
  if (x == 0u || y == 0u) { return sign; }
  let p = significand(x);
  let q = significand(y);
  // 48 bits, from halves of 12: the upper 24 and the lower 24.
  let p1 = p.bits >> 12u;
  let p0 = p.bits & 0xfffu;
  let q1 = q.bits >> 12u;
  let q0 = q.bits & 0xfffu;
  let middle = p1 * q0 + p0 * q1;
  let low = p0 * q0 + ((middle & 0xfffu) << 12u);
  let high = p1 * q1 + (middle >> 12u) + (low >> 24u);
  let bits = (high << 7u) | ((low & 0xffffffu) >> 17u);
  return rounded(sign, p.exponent + q.exponent + 17, bits, (low & 0x1ffffu) != 0u);
}

fn sum(a: u32, b: u32) -> u32 {
  let swap = (a & MAGNITUDE) < (b & MAGNITUDE);
  let larger = select(a, b, swap);
  let smaller = select(b, a, swap);
  let x = larger & MAGNITUDE;
  let y = smaller & MAGNITUDE;
  let sign = larger & SIGN;
  let apart = (larger ^ smaller) >= SIGN;
  if (x >= INFINITY) {
    if (x > INFINITY || (y == INFINITY && apart)) { return NOT_A_NUMBER; }
    return larger;
  }
  if (y == 0u) { return select(larger, a & b, x == 0u); }
  // Three bits below the last one, of which the lowest stands for all that lies under it.
  let top = max(x >> 23u, 1u);
  let distance = top - max(y >> 23u, 1u);
  let p = (select(0u, 0x800000u, x >= 0x800000u) | (x & 0x7fffffu)) << 3u;
  var q = (select(0u, 0x800000u, y >= 0x800000u) | (y & 0x7fffffu)) << 3u;
  if (distance > 26u) {
    q = 1u;
  } else {
    let lost = q & ((1u << distance) - 1u);
    q = (q >> distance) | select(0u, 1u, lost != 0u);
  }
  let bits = select(p + q, p - q, apart);
  if (bits == 0u) { return 0u; }
  return rounded(sign, i32(top) - 153, bits, false);
}

// b is finite and above zero.
fn quotient(a: u32, b: u32) -> u32 {
  let x = a & MAGNITUDE;
  if (x >= INFINITY || x == 0u) { return a; }
  let p = significand(x);
  let q = significand(b);
  var rest = p.bits;
  var bits = 0u;
  for (var i = 0u; i < 27u; i++) {
    let fits = rest >= q.bits;
    bits = (bits << 1u) | select(0u, 1u, fits);
    rest = (rest - select(0u, q.bits, fits)) << 1u;
  }
  return rounded(a & SIGN, p.exponent - q.exponent - 26, bits, rest != 0u);
}

fn isFinite(bits: u32) -> bool { return (bits & MAGNITUDE) < INFINITY; }

// In the order of the floats, but for NaN; −0 next below +0.
fn ordered(bits: u32) -> i32 {
  let word = bitcast<i32>(bits);
  return word ^ ((word >> 31u) & 0x7fffffff);
}

// The bits of a whole number below 2^24.
fn whole(number: i32) -> u32 { return bitcast<u32>(f32(number)); }
`;
