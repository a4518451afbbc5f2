/** Elements that a workgroup has: a multiple of every block, and what chunks are multiples of. */
export const TILE = 4096;

/** Invocations of a workgroup. Every adapter has as many. */
export const LANES = 64;

/** Names of a kernel's parameters, in the order in which they lie: a u32 each. */
const PARAMETERS = [
  "elements",
  /** Of a source: index of the chunk's first element in what is bound. Of a target: the same of its first word. */
  "first",
  /** log2 of a block's elements. */
  "shift",
  /** Of a code. */
  "bits",
  /** Which parts of the payload there are: words of `made`, or of `payload`. */
  "scales",
  "offsets",
  "codes",
  /** Where blocks have nested scales: the scales before that. */
  "plain",
  "blocks",
  /** The number of blocks, or the scale that all share, as a float's bits. */
  "single",
  /** Where the codec's tables begin. */
  "table",
  "nested",
  "affine",
  "stochastic",
  "oneScale",
  /** The seed, the counter of the first draw, how many of its four words are passed over, and the tensor. */
  "key0",
  "key1",
  "counter0",
  "counter1",
  "skipped",
  "tensor0",
  "tensor1",
] as const;

export type Parameters = Partial<Record<(typeof PARAMETERS)[number], number>>;

export const PARAMETER_BYTES = 4 * PARAMETERS.length;

/** Parameters as a kernel reads them; those that are left out are 0. */
export function parameterWords(parameters: Parameters): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(PARAMETERS, (name) => parameters[name] ?? 0);
}

const members = PARAMETERS.map((name) => `  ${name}: u32,\n`).join("");

/** What every kernel begins with. */
export const BINDINGS = /* wgsl */ `
struct Parameters {
${members}}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<u32>;
`;

/** What an encoder makes: counts, and then the payload's parts, each from a word on. */
export const MADE = /* wgsl */ `
struct Made {
  nonFinite: atomic<u32>,
  clamped: atomic<u32>,
  words: array<u32>,
}

@group(0) @binding(2) var<storage, read_write> made: Made;
`;

/** Words of `Made` before its payload. */
export const COUNT_WORDS = 2;

/** What a decoder makes: elements, whose source is a payload. */
export const DECODED = /* wgsl */ `
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;
`;
