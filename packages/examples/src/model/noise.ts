/**
 * Elements of the tile that is repeated: blocks of 64 begin at the same places of the tile everywhere, but no chunk is a
 * whole number of tiles long, so that a chunk in a wrong place does not look right.
 */
const TILE_ELEMENTS = 64 * 4099;

/** What a trained layer's weights spread like. */
const DEVIATION = 0.02;

let tile: Float32Array | undefined;

/**
 * The same values on every run: close to normal, as weights are. Zeros would flatter a codec, and bytes at random are
 * NaNs here and there, whose chunks travel as `none`.
 */
function noiseTile(): Float32Array {
  if (tile) return tile;
  tile = new Float32Array(TILE_ELEMENTS);
  let state = 0x9e3779b9;
  const uniform = (): number => {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  // The sum of four uniform values has variance 4/12.
  const scale = DEVIATION / Math.sqrt(4 / 12);
  for (let i = 0; i < TILE_ELEMENTS; i++)
    tile[i] = (uniform() + uniform() + uniform() + uniform() - 2) * scale;
  return tile;
}

/** Each tensor begins elsewhere in the tile, at a whole block. */
const startOf = (tensor: number): number => (tensor * 64 * 1009) % TILE_ELEMENTS;

/** Fills `target` with the elements of tensor `tensor` from `first` on. Copies: faster than any generator of values. */
export function fillNoise(target: Float32Array, tensor: number, first = 0): void {
  const source = noiseTile();
  let from = (startOf(tensor) + first) % TILE_ELEMENTS;
  for (let at = 0; at < target.length; ) {
    const count = Math.min(target.length - at, TILE_ELEMENTS - from);
    target.set(source.subarray(from, from + count), at);
    at += count;
    from = 0;
  }
}

/** Elements that `checkNoise` looks at together: the block of the 4-bit codecs. */
const BLOCK = 64;
const SAMPLES = 64;

/**
 * Looks at blocks all over a tensor, the first and the last among them.
 * @param tolerance The codec's largest error as a share of the largest value in a block; 0 for exact ones.
 * @throws Error naming the first element that is off.
 */
export function checkNoise(
  data: Float32Array,
  tensor: { readonly index: number; readonly name: string },
  tolerance: number,
): void {
  const blocks = Math.ceil(data.length / BLOCK);
  const step = Math.max(1, Math.floor(blocks / SAMPLES));
  for (let block = 0; block < blocks; block += step) checkBlock(data, block * BLOCK, tensor, tolerance);
  if (blocks) checkBlock(data, (blocks - 1) * BLOCK, tensor, tolerance);
}

function checkBlock(
  data: Float32Array,
  first: number,
  { index, name }: { readonly index: number; readonly name: string },
  tolerance: number,
): void {
  const block = data.subarray(first, first + BLOCK);
  const expected = new Float32Array(block.length);
  fillNoise(expected, index, first);
  const allowed = tolerance * expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  block.forEach((value, i) => {
    if (Math.abs(value - expected[i]!) <= allowed) return;
    throw new Error(`element ${first + i} of tensor ${name} is ${value} where ${expected[i]} was sent`);
  });
}
