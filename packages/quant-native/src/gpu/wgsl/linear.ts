import { GROUP } from "./elements.js";
import { LANES, TILE } from "./parameters.js";
import { PHILOX } from "./philox.js";

const SMALLEST_BLOCK = 32;
/** Elements of an invocation: their codes are whole words, whatever the bits of one. */
const RUN = 32;

/** Whole numbers beyond all levels; t is limited to them before it is rounded. */
const BEYOND = 512;

/** The two ways from a float to a level's number. */
const ROUNDING = /* wgsl */ `
// To the nearest whole number, ties to even.
fn nearest(t: u32) -> i32 {
  let magnitude = t & MAGNITUDE;
  if (magnitude == 0u) { return 0; }
  let s = significand(magnitude);
  var number = ${BEYOND};
  if (s.exponent < -14) {
    let dropped = u32(min(-s.exponent, 31));
    let kept = s.bits >> dropped;
    let rest = s.bits & ((1u << dropped) - 1u);
    let half = 1u << (dropped - 1u);
    number = i32(kept + select(0u, 1u, rest > half || (rest == half && (kept & 1u) == 1u)));
  }
  return select(number, -number, t >= SIGN);
}

// Up or down, with a probability as large as t is near. The difference from the level below is a float, which above one
// half is rounded to 2^-24.
fn stochastic(t: u32, draw: u32) -> i32 {
  let magnitude = t & MAGNITUDE;
  if (magnitude == 0u) { return 0; }
  let s = significand(magnitude);
  let negative = t >= SIGN;
  if (s.exponent >= -14) { return select(${BEYOND}, -${BEYOND}, negative); }
  let dropped = u32(-s.exponent);
  let kept = select(0u, s.bits >> min(dropped, 31u), dropped < 32u);
  let rest = select(s.bits, s.bits & ((1u << min(dropped, 31u)) - 1u), dropped < 32u);
  if (rest == 0u) { return select(i32(kept), -i32(kept), negative); }
  var below = 0u;
  if (dropped <= 24u) {
    below = rest << (24u - dropped);
    if (negative) { below = 0x1000000u - below; }
  } else {
    let beyond = min(dropped - 24u, 31u);
    let whole = rest >> beyond;
    let part = rest & ((1u << beyond) - 1u);
    if (negative) {
      let half = 1u << (beyond - 1u);
      below = 0x1000000u - (whole + select(0u, 1u, part > half || (part == half && (whole & 1u) == 1u)));
    } else {
      below = whole + select(0u, 1u, part > 0u);
    }
  }
  let floor = select(i32(kept), -i32(kept) - 1, negative);
  return floor + select(0, 1, (draw >> 8u) < below);
}
`;

/** Elements as uniform levels: scales, offsets where affine, and codes of 2 to 8 bits, one behind the other. */
export const ENCODE_LINEAR = /* wgsl */ `
${PHILOX}
${ROUNDING}
// Of a block: the extent of its values, and what becomes of them. NaN is above infinity, and as an integer in the order
// of floats also below its negative.
var<workgroup> largest: array<atomic<i32>, ${TILE / SMALLEST_BLOCK}>;
var<workgroup> least: array<atomic<i32>, ${TILE / SMALLEST_BLOCK}>;
var<workgroup> inverses: array<u32, ${TILE / SMALLEST_BLOCK}>;
var<workgroup> offsets: array<u32, ${TILE / SMALLEST_BLOCK}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let bits = parameters.bits;
  let shift = parameters.shift;
  let affine = parameters.affine != 0u;
  let shared_scale = parameters.oneScale != 0u;
  let top = (1 << (bits - 1u)) - 1;
  let bottom = select(-top, 0, affine);
  let most = select(top, (1 << bits) - 1, affine);
  let begin = group.x * ${TILE}u;
  let count = min(${TILE}u, parameters.elements - begin);
  for (var b = lane; b < ${TILE / SMALLEST_BLOCK}u; b += ${LANES}u) {
    atomicStore(&largest[b], bitcast<i32>(0x80000000u));
    atomicStore(&least[b], 0x7fffffff);
  }
  workgroupBarrier();
  var nonFinite = 0u;
  for (var first = ${RUN}u * lane; first < count; first += ${RUN * LANES}u) {
    var lower = 0x7fffffff;
    var upper = bitcast<i32>(0x80000000u);
    for (var i = first; i < min(first + ${RUN}u, count); i++) {
      let value = load(begin + i);
      nonFinite += select(1u, 0u, isFinite(value));
      let key = ordered(select(value & MAGNITUDE, value, affine));
      lower = min(lower, key);
      upper = max(upper, key);
    }
    if (!shared_scale) {
      atomicMin(&least[first >> shift], lower);
      atomicMax(&largest[first >> shift], upper);
    }
  }
  workgroupBarrier();
  if (!shared_scale) {
    for (var b = lane; (b << shift) < count; b += ${LANES}u) {
      let upper = atomicLoad(&largest[b]);
      let lower = select(0, atomicLoad(&least[b]), affine);
      // Their bits; a least value of −0 is +0.
      let high = bitcast<u32>(upper ^ ((upper >> 31u) & 0x7fffffff));
      var low = bitcast<u32>(lower ^ ((lower >> 31u) & 0x7fffffff));
      if (low == SIGN) { low = 0u; }
      let finite = isFinite(high) && isFinite(low);
      let range = sum(high, low ^ SIGN);
      let scale = quotient(range, whole(most));
      let carried = finite && isFinite(range) && isFinite(sum(product(whole(most), scale), low));
      if (finite && !carried) { nonFinite += min(1u << shift, count - (b << shift)); }
      let inverse = reciprocal(scale & MAGNITUDE);
      let flat = !carried || inverse == INFINITY;
      inverses[b] = select(inverse, 0u, flat);
      offsets[b] = low;
      let at = (begin >> shift) + b;
      made.words[parameters.scales + at] = select(scale, 0u, flat);
      if (affine) { made.words[parameters.offsets + at] = select(0u, low, carried); }
    }
  }
  if (nonFinite > 0u) { atomicAdd(&made.nonFinite, nonFinite); }
  workgroupBarrier();
  let shared_inverse = reciprocal(parameters.single);
  var clamped = 0u;
  for (var first = ${RUN}u * lane; first < count; first += ${RUN * LANES}u) {
    let inverse = select(inverses[first >> shift], shared_inverse, shared_scale);
    let offset = select(0u, offsets[first >> shift] ^ SIGN, affine);
    var word = 0u;
    var filled = 0u;
    var at = parameters.codes + ((begin + first) >> 5u) * bits;
    var random = vec4<u32>();
    for (var k = 0u; k < ${RUN}u; k++) {
      let i = begin + first + k;
      var code = 0u;
      if (first + k < count) {
        var value = load(i);
        if (!isFinite(value)) { value = 0u; }
        var level = 0;
        // No reciprocal is zero but that of a block which is all one level.
        if (inverse != 0u) {
          if (affine) { value = sum(value, offset); }
          let t = product(value, inverse);
          if (parameters.stochastic != 0u) {
            let draw = i + parameters.skipped;
            if (k == 0u || (draw & 3u) == 0u) { random = draws(draw >> 2u); }
            level = stochastic(t, random[draw & 3u]);
          } else {
            level = nearest(t);
          }
          clamped += select(0u, 1u, level < bottom || level > most);
          level = clamp(level, bottom, most);
        }
        code = u32(level - bottom);
      }
      word |= code << filled;
      filled += bits;
      if (filled >= 32u) {
        made.words[at] = word;
        at++;
        filled -= 32u;
        word = select(0u, code >> (bits - filled), filled > 0u);
      }
    }
  }
  if (shared_scale && clamped > 0u) { atomicAdd(&made.clamped, clamped); }
}
`;

/** Levels as elements: their number times the scale, and then, affine, the offset added. */
export const DECODE_LINEAR = /* wgsl */ `
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let bits = parameters.bits;
  let affine = parameters.affine != 0u;
  let bottom = select(1 - (1 << (bits - 1u)), 0, affine);
  let begin = group.x * ${TILE}u;
  let end = min(begin + ${TILE}u, parameters.elements);
  for (var i = begin + ${GROUP}u * lane; i < end; i += ${GROUP * LANES}u) {
    var scale = parameters.single;
    var offset = 0u;
    if (parameters.oneScale == 0u) { scale = source[parameters.scales + (i >> parameters.shift)]; }
    if (affine) { offset = source[parameters.offsets + (i >> parameters.shift)]; }
    var values: array<u32, ${GROUP}>;
    for (var k = 0u; k < ${GROUP}u; k++) {
      if (i + k >= end) { break; }
      let bit = (i + k) * bits;
      let at = parameters.codes + (bit >> 5u);
      let from_bit = bit & 31u;
      var code = source[at] >> from_bit;
      if (from_bit + bits > 32u) { code |= source[at + 1u] << (32u - from_bit); }
      let level = i32(code & ((1u << bits) - 1u)) + bottom;
      let value = product(whole(level), scale);
      if (affine) {
        values[k] = sum(value, offset);
      } else {
        values[k] = value;
      }
    }
    store(i, values);
  }
}
`;
