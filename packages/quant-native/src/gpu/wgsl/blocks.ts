import { CODES_AT, TABLES, THRESHOLDS_AT, VALUES_AT } from "./level-tables.js";
import { LANES, TILE } from "./parameters.js";

/** Where a kernel of blocks has its elements from, and where it puts what it makes of them: WGSL expressions. */
interface BlockRun {
  readonly elements: string;
  /** Element `i` of the run, as a float's bits. */
  readonly element: string;
  readonly shift: string;
  readonly table: string;
  readonly scales: string;
  readonly codes: string;
  /** Of a code: 4 or 8. */
  readonly bits: 4 | 8;
  readonly counts: boolean;
}

const SMALLEST_BLOCK = 32;
/** Elements that an invocation has one after the other: a word of 4-bit codes, two of 8-bit ones. */
const GROUP = 8;

const PACK = {
  // The element with the even index in the high nibble.
  4: "words[0] |= code << (8u * (k >> 1u) + 4u * (1u - (k & 1u)));",
  8: "words[k >> 2u] |= code << (8u * (k & 3u));",
};

/**
 * Blocks of elements as scales and codes. A block's scale is its largest magnitude; NaN is passed over, and a block that
 * is cut short is filled up with zeros.
 */
export function quantizeBlocks({
  elements,
  element,
  shift,
  table,
  scales,
  codes,
  bits,
  counts,
}: BlockRun): string {
  const words = (GROUP * bits) / 32;
  return /* wgsl */ `
// Magnitudes plus one: 0 where there is none.
var<workgroup> largest: array<atomic<u32>, ${TILE / SMALLEST_BLOCK}>;
var<workgroup> inverses: array<u32, ${TILE / SMALLEST_BLOCK}>;
var<workgroup> thresholds: array<i32, ${2 ** bits}>;
var<workgroup> codes: array<u32, ${2 ** bits}>;

// The code of a value times a reciprocal. Of NaN it is 0 in every format.
fn code_of(value: u32, inverse: u32) -> u32 {
  let scaled = product(value, inverse);
  if ((scaled & MAGNITUDE) > INFINITY) { return 0u; }
  let key = ordered(scaled);
  var rank = 0u;
  for (var step = ${2 ** (bits - 1)}u; step > 0u; step >>= 1u) {
    rank += select(0u, step, key > thresholds[rank + step - 1u]);
  }
  return codes[rank];
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let elements = ${elements};
  let shift = ${shift};
  let begin = group.x * ${TILE}u;
  let count = min(${TILE}u, elements - begin);
  for (var i = lane; i < ${2 ** bits}u; i += ${LANES}u) {
    thresholds[i] = bitcast<i32>(tables[${table} + ${THRESHOLDS_AT}u + i]);
    codes[i] = tables[${table} + ${CODES_AT}u + i];
  }
  var nonFinite = 0u;
  for (var first = ${GROUP}u * lane; first < count; first += ${GROUP * LANES}u) {
    var most = 0u;
    for (var i = begin + first; i < min(begin + first + ${GROUP}u, elements); i++) {
      let magnitude = ${element} & MAGNITUDE;
      nonFinite += select(0u, 1u, magnitude >= INFINITY);
      most = max(most, select(0u, magnitude + 1u, magnitude <= INFINITY));
    }
    atomicMax(&largest[first >> shift], most);
  }
  ${counts ? "if (nonFinite > 0u) { atomicAdd(&made.nonFinite, nonFinite); }" : ""}
  workgroupBarrier();
  for (var b = lane; (b << shift) < count; b += ${LANES}u) {
    var most = atomicLoad(&largest[b]);
    if (((b + 1u) << shift) > count) { most = max(most, 1u); }
    // A whole block of NaN keeps what the search for its largest magnitude began with.
    let scale = select(most - 1u, 0xff7fffffu, most == 0u);
    made.words[${scales} + (begin >> shift) + b] = scale;
    inverses[b] = reciprocal(scale & MAGNITUDE);
  }
  workgroupBarrier();
  for (var first = ${GROUP}u * lane; first < count; first += ${GROUP * LANES}u) {
    let inverse = inverses[first >> shift];
    // Said, since a driver was seen that keeps what the round before has left.
    var words = array<u32, ${words}>();
    for (var k = 0u; k < ${GROUP}u; k++) {
      var value = 0u;
      let i = begin + first + k;
      if (i < elements) { value = ${element}; }
      let code = code_of(value, inverse);
      ${PACK[bits]}
    }
    for (var w = 0u; w < ${words}u; w++) {
      made.words[${codes} + (begin + first) / ${32 / bits}u + w] = words[w];
    }
  }
}
`;
}

/** An encoder of blocks. Its scales lie where `plain` says, where they are to be nested. */
export function encodeBlocks(bits: 4 | 8): string {
  return quantizeBlocks({
    elements: "parameters.elements",
    element: "load(i)",
    shift: "parameters.shift",
    table: "parameters.table",
    scales: "select(parameters.scales, parameters.plain, parameters.nested != 0u)",
    codes: "parameters.codes",
    bits,
    counts: true,
  });
}

const UNPACK = {
  4: "(source[parameters.codes + (i >> 3u)] >> (8u * (k >> 1u) + 4u * (1u - (k & 1u)))) & 15u",
  8: "(source[parameters.codes + ((i + k) >> 2u)] >> (8u * (k & 3u))) & 255u",
};

/** A decoder of blocks: levels times scales. Of nested ones, `scales` is where the offset is, and then theirs. */
export function decodeBlocks(bits: 4 | 8): string {
  return /* wgsl */ `
fn scale_of(block: u32) -> u32 {
  if (parameters.nested == 0u) { return source[parameters.scales + block]; }
  let code = (source[parameters.offsets + (block >> 2u)] >> (8u * (block & 3u))) & 255u;
  let nested = product(tables[${TABLES.blockwise8 + VALUES_AT}u + code], source[parameters.scales + 1u + (block >> 8u)]);
  return sum(nested, source[parameters.scales]);
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let begin = group.x * ${TILE}u;
  let end = min(begin + ${TILE}u, parameters.elements);
  for (var i = begin + ${GROUP}u * lane; i < end; i += ${GROUP * LANES}u) {
    let scale = scale_of(i >> parameters.shift);
    var values: array<u32, ${GROUP}>;
    for (var k = 0u; k < ${GROUP}u; k++) {
      if (i + k >= end) { break; }
      let code = ${UNPACK[bits]};
      values[k] = product(tables[parameters.table + ${VALUES_AT}u + code], scale);
    }
    store(i, values);
  }
}
`;
}
