import { GROUP } from "./elements.js";
import { LANES, TILE } from "./parameters.js";

const HALF_CODECS = {
  float16: {
    widen: "halfToFloat",
    // Finite values that would round to infinity are clamped, and counted.
    narrow: /* wgsl */ `
      var half = floatToHalf(bits);
      if ((half & 0x7c00u) == 0x7c00u) {
        if (isFinite(bits)) {
          half = (half & 0x8000u) | 0x7bffu;
          clamped++;
        } else {
          nonFinite++;
        }
      }`,
  },
  bfloat16: {
    widen: "brainToFloat",
    narrow: /* wgsl */ `
      let half = floatToBrain(bits);
      nonFinite += select(0u, 1u, (half & 0x7f80u) == 0x7f80u);`,
  },
};

export type HalfCodecName = keyof typeof HALF_CODECS;

/** Elements as 16-bit floats, two a word. */
export function encodeHalves(codec: HalfCodecName): string {
  return /* wgsl */ `
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let begin = group.x * ${TILE}u;
  let end = min(begin + ${TILE}u, parameters.elements);
  var nonFinite = 0u;
  var clamped = 0u;
  for (var i = begin + 2u * lane; i < end; i += ${2 * LANES}u) {
    var word = 0u;
    for (var k = 0u; k < 2u && i + k < end; k++) {
      let bits = load(i + k);
      ${HALF_CODECS[codec].narrow}
      word |= half << (16u * k);
    }
    made.words[parameters.codes + (i >> 1u)] = word;
  }
  if (nonFinite > 0u) { atomicAdd(&made.nonFinite, nonFinite); }
  if (clamped > 0u) { atomicAdd(&made.clamped, clamped); }
}
`;
}

/** 16-bit floats as elements. */
export function decodeHalves(codec: HalfCodecName): string {
  return /* wgsl */ `
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let begin = group.x * ${TILE}u;
  let end = min(begin + ${TILE}u, parameters.elements);
  for (var i = begin + ${GROUP}u * lane; i < end; i += ${GROUP * LANES}u) {
    var values: array<u32, ${GROUP}>;
    for (var k = 0u; k < ${GROUP}u; k++) {
      if (i + k >= end) { break; }
      values[k] = ${HALF_CODECS[codec].widen}((source[parameters.codes + ((i + k) >> 1u)] >> (16u * (k & 1u))) & 0xffffu);
    }
    store(i, values);
  }
}
`;
}
