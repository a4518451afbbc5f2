import {
  DYNAMIC8,
  DYNAMIC8_MIDPOINTS,
  DYNAMIC8_THRESHOLDS,
  FP4,
  FP4_THRESHOLDS,
  NF4,
  NF4_THRESHOLDS,
} from "../codec/codebook.js";
import { none } from "../codec/none.js";
import { byteLength, type DType, isFloatDType } from "../dtype.js";

/** Named source bytes for the suites: `bytes` holds `elements` elements of the dtype it was made for. */
export interface Sample {
  /** What it is, for a test's name. */
  readonly label: string;
  /** How many elements. */
  readonly elements: number;
  /** The elements, little-endian. */
  readonly bytes: Uint8Array;
}

/**
 * Numbers in [0, 1) that are the same everywhere (mulberry32).
 * @example
 * const next = pseudoRandom(7);
 * console.log(next() === pseudoRandom(7)()); // true
 */
export function pseudoRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Ordinary elements of any dtype: weights of a bell-like spread around 0 where it is a float dtype, else any bytes.
 * @example
 * const bytes = shifted(ordinary("BF16", 100, 1), 3);
 * const values = decodeFloats("BF16", bytes, 100);
 * console.log(encodeFloats("BF16", values).length, adversarial("BF16").length > 5); // 200 true
 */
export function ordinary(dtype: DType, elements: number, seed: number): Uint8Array {
  const random = pseudoRandom(seed);
  if (!isFloatDType(dtype)) {
    const bytes = new Uint8Array(byteLength(dtype, elements));
    for (let i = 0; i < bytes.length; i++) bytes[i] = random() * 256;
    return bytes;
  }
  // Loops, not `from` with a callback, which takes ten times as long: the suites ask for millions of elements.
  const values = new Float32Array(elements);
  for (let i = 0; i < elements; i++) values[i] = 0.04 * (random() + random() + random() - 1.5);
  return encodeFloats(dtype, values);
}

/** Values as elements of a float dtype, rounded to nearest even. */
export function encodeFloats(dtype: DType, values: Float32Array): Uint8Array {
  const target = new Uint8Array(byteLength(dtype, values.length));
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  none.decode({ name: "none" }, "F32", values.length, bytes, dtype, target);
  return target;
}

/** Elements of a float dtype as float32, rounded to nearest even. */
export function decodeFloats(dtype: DType, bytes: Uint8Array, elements: number): Float32Array {
  const values = new Float32Array(elements);
  none.decode({ name: "none" }, dtype, elements, bytes, "F32", new Uint8Array(values.buffer));
  return values;
}

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** A float32 and its two neighbours. */
function around(value: number): number[] {
  floats[0] = value;
  const bits = words[0]!;
  return [bits - 1, bits, bits + 1].map((near) => {
    words[0] = near;
    return floats[0]!;
  });
}

/** Every value at which some built-in codec's code changes, every value it decodes to, and their neighbours. */
function decisionPoints(): number[] {
  const points = [DYNAMIC8, DYNAMIC8_MIDPOINTS, DYNAMIC8_THRESHOLDS, NF4, NF4_THRESHOLDS, FP4];
  points.push(
    FP4_THRESHOLDS,
    FP4_THRESHOLDS.map((t) => -t),
  );
  const near = points.flat().flatMap(around);
  return near.filter((value) => Math.abs(value) <= 1).concat(0, -0, 2 ** -149, -(2 ** -149), 2 ** -126);
}

/** Blocks of 32 whose largest magnitude is `scale`: a 1 in front of 31 of the values. */
function scaledBlocks(values: readonly number[], scale: number): number[] {
  const blocks: number[] = [];
  for (const value of values) {
    if (blocks.length % 32 === 0) blocks.push(scale);
    blocks.push(Math.fround(value * scale));
  }
  return blocks;
}

const FLT_MAX = 3.4028234663852886e38;

/** Blocks of 64, each of one kind that formats treat apart. */
function specialBlocks(): number[] {
  const random = pseudoRandom(7);
  const block = (value: (i: number) => number) => Array.from({ length: 64 }, (_, i) => value(i));
  const one = (special: number) => block((i) => (i === 5 ? special : random() - 0.5));
  return [
    ...block(() => 0),
    ...block(() => -0),
    ...block(() => Number.NaN),
    ...block((i) => (i % 3 === 0 ? Number.NaN : i - 32)),
    ...one(Number.NaN),
    ...one(Number.POSITIVE_INFINITY),
    ...one(Number.NEGATIVE_INFINITY),
    ...block((i) => (i % 2 === 0 ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY)),
    ...one(FLT_MAX),
    ...block((i) => (i % 2 === 0 ? -FLT_MAX : 2 ** 126)),
    // Subnormal scales: their reciprocals overflow below 2^-128, and are large but finite just above it.
    ...block((i) => (i - 31) * 2 ** -149),
    ...block((i) => (i - 31) * 2 ** -133),
    ...block((i) => (i - 31) * 2 ** -131),
    ...around(2 ** -128).flatMap((edge) => block((i) => (i === 0 ? edge : (i - 31) * 2 ** -135))),
    ...one(2 ** -149),
    // Powers of two, down and up the whole range.
    ...Array.from({ length: 277 }, (_, i) => 2 ** (i - 149)),
    ...Array.from({ length: 277 }, (_, i) => -(2 ** (127 - i))),
    // Where binary16 and bfloat16 begin to clamp, to overflow, to be subnormal and to be zero.
    ...[
      65504,
      65519.99609375,
      65520,
      65536,
      2 ** -14,
      2 ** -24,
      2 ** -25,
      2 ** -25 * 1.5,
      2 ** -133,
      2 ** -134,
    ]
      .flatMap(around)
      .flatMap((value) => [value, -value]),
    ...[(2 - 2 ** -7) * 2 ** 127, (2 - 2 ** -8) * 2 ** 127]
      .flatMap(around)
      .flatMap((value) => [value, -value]),
  ];
}

/** Blocks of 256 of whole and half numbers whose uniform levels are the whole ones: every other value is a tie. */
function ties(): number[] {
  const random = pseudoRandom(13);
  const halves = (count: number, least: number, most: number) =>
    Array.from({ length: count }, () => least + Math.floor(random() * (2 * (most - least) + 1)) / 2);
  return [2, 3, 4, 5, 6, 7, 8].flatMap((bits) => {
    const top = 2 ** (bits - 1) - 1;
    const all = 2 ** bits - 1;
    return [top, ...halves(255, -top, top), 0, all, ...halves(254, 0, all)];
  });
}

/** Doubles around every edge of rounding them to float32. */
function specialDoubles(): number[] {
  const halfway = 1 + 2 ** -24;
  const top = FLT_MAX + 2 ** 103;
  const values = [
    halfway,
    halfway + 2 ** -52,
    halfway - 2 ** -52,
    1 + 3 * 2 ** -24,
    FLT_MAX,
    // Half a unit above the largest float32 rounds to infinity; anything less rounds down to it.
    top,
    top - 2 ** 75,
    2 ** 128,
    1e300,
    Number.MAX_VALUE,
    Number.MIN_VALUE,
    2 ** -149,
    2 ** -150,
    2 ** -150 * (1 + 2 ** -52),
    2 ** -126 - 2 ** -151,
    1e-300,
    Number.POSITIVE_INFINITY,
    Number.NaN,
  ];
  return values.flatMap((value) => [value, -value]);
}

/** NaNs with payloads, signalling and quiet, of both signs, as bytes. */
function payloadNaNs(dtype: DType): Uint8Array {
  const random = pseudoRandom(11);
  if (dtype === "F32") {
    return new Uint8Array(
      Uint32Array.from(
        { length: 200 },
        (_, i) => ((i % 2) * 0x80000000 + 0x7f800001 + random() * 0x7ffffe) >>> 0,
      ).buffer,
    );
  }
  const halves = Array.from({ length: 200 }, (_, i) => [
    // Every other one has its payload in the lowest bits only, which narrowing loses.
    i % 4 < 2 ? 1 + random() * 0xffff : random() * 2 ** 32,
    ((i % 2) * 0x80000000 + 0x7ff00000 + (i % 4 < 2 ? 0 : random() * 0xfffff)) >>> 0,
  ]);
  return new Uint8Array(Uint32Array.from(halves.flat()).buffer);
}

const hostile = new Map<DType, readonly Sample[]>();

/**
 * Hostile sources of a float dtype: every decision point and its neighbours, all special values, every 16-bit float. Made once,
 * since the suites ask for them thousands of times: nobody may write to them.
 */
export function adversarial(dtype: DType): readonly Sample[] {
  const made = hostile.get(dtype) ?? makeAdversarial(dtype);
  hostile.set(dtype, made);
  return made;
}

function makeAdversarial(dtype: DType): readonly Sample[] {
  const sample = (label: string, bytes: Uint8Array): Sample => ({
    label,
    elements: bytes.length / byteLength(dtype, 1),
    bytes,
  });
  const points = decisionPoints();
  const samples = [1, 2 ** 100, 2 ** -100, 2 ** -126, 0.0237, 3e38].map((scale) =>
    sample(
      `decision points times ${scale}`,
      encodeFloats(dtype, Float32Array.from(scaledBlocks(points, scale))),
    ),
  );
  samples.push(sample("special blocks", encodeFloats(dtype, Float32Array.from(specialBlocks()))));
  samples.push(sample("negative zeros", encodeFloats(dtype, new Float32Array(300).fill(-0))));
  if (dtype === "F16" || dtype === "BF16") {
    // A stride coprime to 65536 mixes signs and exponents in every block.
    const all = Uint16Array.from({ length: 65536 }, (_, i) => (i * 40503) & 0xffff);
    samples.push(
      sample("all patterns in order", new Uint8Array(all.slice().sort().buffer)),
      sample("all patterns, mixed", new Uint8Array(all.buffer)),
    );
  } else {
    samples.push(sample("NaN payloads", payloadNaNs(dtype)));
  }
  if (dtype === "F64") {
    const doubles = specialDoubles();
    samples.push(sample("special doubles", new Uint8Array(Float64Array.from(doubles).buffer)));
    // One a block, so that an infinity does not hide the others.
    const spread = doubles.flatMap((value) => [value, ...new Array<number>(31).fill(0.3)]);
    samples.push(sample("special doubles, one a block", new Uint8Array(Float64Array.from(spread).buffer)));
  }
  samples.push(sample("ties", encodeFloats(dtype, Float32Array.from(ties()))));
  return samples;
}

/** Lengths at and around every block, run and nibble edge. */
export const EDGE_LENGTHS: readonly number[] = Object.freeze([
  0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 4095, 4096, 4097, 8191, 12293,
]);

/** A copy of `bytes` that begins `offset` bytes into its buffer. */
export function shifted(bytes: Uint8Array, offset: number): Uint8Array {
  const copy = new Uint8Array(offset + bytes.length).subarray(offset);
  copy.set(bytes);
  return copy;
}
