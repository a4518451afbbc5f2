import { NESTED_BLOCK } from "@tensorwire/core";
import { quantizeBlocks } from "./blocks.js";
import { TABLES } from "./level-tables.js";

const LANES = 16;

/**
 * The mean of all scales, from sums in as many lanes as the format has, folded in halves; 0 where it is not finite. By
 * one workgroup: the order of the sums is part of the format.
 */
export const NESTED_MEAN = /* wgsl */ `
var<workgroup> lanes: array<u32, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) lane: u32) {
  var total = 0u;
  for (var i = lane; i < parameters.blocks; i += ${LANES}u) {
    total = sum(total, made.words[parameters.plain + i]);
  }
  lanes[lane] = total;
  for (var width = ${LANES / 2}u; width > 0u; width >>= 1u) {
    workgroupBarrier();
    if (lane < width) { lanes[lane] = sum(lanes[lane], lanes[lane + width]); }
  }
  if (lane == 0u) {
    let mean = quotient(lanes[0], parameters.single);
    made.words[parameters.scales] = select(0u, mean, isFinite(mean));
  }
}
`;

/** The scales' differences from their mean, in 8 bits each. */
export const NESTED_SCALES = quantizeBlocks({
  elements: "parameters.blocks",
  element: "sum(made.words[parameters.plain + i], made.words[parameters.scales] ^ SIGN)",
  shift: `${Math.log2(NESTED_BLOCK)}u`,
  table: `${TABLES.blockwise8}u`,
  scales: "parameters.scales + 1u",
  codes: "parameters.offsets",
  bits: 8,
  counts: false,
});
