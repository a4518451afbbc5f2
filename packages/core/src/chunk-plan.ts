import { byteLength, DTYPE_BITS, type DType } from "./dtype.js";
import { TensorwireError } from "./errors.js";
import { elementCount, type TensorInfo } from "./tensor.js";

/**
 * Every chunk begins at a multiple of this many elements of its tensor: a multiple of every codec's block, so that
 * encoding chunk by chunk gives what encoding the tensor whole gives.
 */
export const CHUNK_ALIGNMENT = 4096;

/** The smallest chunk size: one aligned run of the widest dtype. */
export const MIN_CHUNK_BYTES = CHUNK_ALIGNMENT * 8;

/** The largest chunk size: a record counts a chunk's elements and its payload's bytes in a u32. */
export const MAX_CHUNK_BYTES = 2 ** 31;

/** A run of consecutive elements of one tensor. */
export interface Chunk {
  /** Its place in the plan, from 0. */
  readonly ordinal: number;
  /** Index of its tensor in the manifest. */
  readonly tensor: number;
  /** Its place in its tensor, from 0. */
  readonly index: number;
  /** First element, and where it lies in the tensor's bytes. */
  readonly first: number;
  /** Byte of the tensor that the first element begins at. */
  readonly offset: number;
  /** How many elements. */
  readonly elements: number;
  /** Source bytes: what credit counts. */
  readonly bytes: number;
}

/** Consecutive chunks of a plan. */
export interface ChunkRange {
  /** Ordinal of the first chunk. */
  readonly first: number;
  /** How many chunks. */
  readonly count: number;
}

/**
 * Elements in each chunk of a tensor but the last.
 * @example
 * console.log(chunkElements("F32", 4 * 2 ** 20)); // 1048576
 */
export function chunkElements(dtype: DType, chunkBytes: number): number {
  const runs = Math.floor((chunkBytes * 8) / DTYPE_BITS[dtype] / CHUNK_ALIGNMENT);
  // Of 4-bit dtypes a chunk's elements could be more than its bytes.
  return Math.min(runs * CHUNK_ALIGNMENT, MAX_CHUNK_BYTES);
}

/**
 * How a model is cut into chunks: a pure function of the tensors' dtypes and shapes and of `chunkBytes`, so that
 * both ends compute the same one. Empty tensors have no chunks.
 * @example
 * const plan = new ChunkPlan([{ name: "weight", dtype: "F32", shape: [3000, 1000] }], 4 * 2 ** 20);
 * console.log([...plan.walk()].map(({ elements }) => elements).join(" ")); // 1048576 1048576 902848
 */
export class ChunkPlan {
  /** Chunks in the whole model. */
  readonly chunks: number;
  /** Source bytes in the whole model. */
  readonly bytes: number;
  /** Source bytes of the largest chunk. */
  readonly maxChunkBytes: number;
  /** Ordinal of each tensor's first chunk, and, last, the number of chunks. */
  readonly #first: Float64Array;
  readonly #elements: Float64Array;
  readonly #dtypes: readonly DType[];

  constructor(
    tensors: readonly TensorInfo[],
    /** Source bytes of a chunk, at most. */
    readonly chunkBytes: number,
  ) {
    if (!Number.isSafeInteger(chunkBytes) || chunkBytes < MIN_CHUNK_BYTES) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `chunkBytes must be an integer of at least ${MIN_CHUNK_BYTES} (${CHUNK_ALIGNMENT} elements of 8 bytes), not ${chunkBytes}`,
      );
    }
    if (chunkBytes > MAX_CHUNK_BYTES) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `chunkBytes must be at most ${MAX_CHUNK_BYTES}, not ${chunkBytes}`,
      );
    }
    this.#first = new Float64Array(tensors.length + 1);
    this.#elements = new Float64Array(tensors.length);
    this.#dtypes = tensors.map((tensor) => tensor.dtype);
    let chunks = 0;
    let bytes = 0;
    let largest = 0;
    tensors.forEach((tensor, i) => {
      const elements = elementCount(tensor.shape, tensor.name);
      const perChunk = chunkElements(tensor.dtype, chunkBytes);
      this.#first[i] = chunks;
      this.#elements[i] = elements;
      chunks += Math.ceil(elements / perChunk);
      bytes += byteLength(tensor.dtype, elements);
      largest = Math.max(largest, byteLength(tensor.dtype, Math.min(elements, perChunk)));
    });
    this.#first[tensors.length] = chunks;
    if (!Number.isSafeInteger(bytes)) {
      throw new TensorwireError("LIMIT_EXCEEDED", "the model has more than 2^53 bytes");
    }
    this.chunks = chunks;
    this.bytes = bytes;
    this.maxChunkBytes = largest;
  }

  /** Tensors in the whole model. */
  get tensors(): number {
    return this.#dtypes.length;
  }

  /** Ordinals of the chunks of tensor `i`. */
  range(i: number): ChunkRange {
    const first = this.#first[i]!;
    return { first, count: this.#first[i + 1]! - first };
  }

  /** The chunk at `ordinal`. @throws TensorwireError `INTERNAL` for one that is not in the plan. */
  chunk(ordinal: number): Chunk {
    this.#check(ordinal, 1);
    let low = 0;
    let high = this.#dtypes.length;
    // The last tensor whose first chunk is not after `ordinal`; empty tensors share their successor's ordinal.
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (middle < this.#dtypes.length && this.#first[middle]! <= ordinal) low = middle;
      else high = middle - 1;
    }
    return this.#chunk(low, ordinal);
  }

  /** The chunks of `ranges`, in order. */
  *walk(ranges: Iterable<ChunkRange> = [{ first: 0, count: this.chunks }]): Generator<Chunk> {
    for (const { first, count } of ranges) {
      if (count === 0) continue;
      this.#check(first, count);
      let tensor = this.chunk(first).tensor;
      for (let ordinal = first; ordinal < first + count; ordinal++) {
        while (ordinal >= this.#first[tensor + 1]!) tensor++;
        yield this.#chunk(tensor, ordinal);
      }
    }
  }

  #check(first: number, count: number): void {
    if (Number.isSafeInteger(first) && first >= 0 && first + count <= this.chunks) return;
    throw new TensorwireError("INTERNAL", `chunks ${first}+${count} of a plan of ${this.chunks}`);
  }

  #chunk(tensor: number, ordinal: number): Chunk {
    const dtype = this.#dtypes[tensor]!;
    const perChunk = chunkElements(dtype, this.chunkBytes);
    const index = ordinal - this.#first[tensor]!;
    const first = index * perChunk;
    const elements = Math.min(perChunk, this.#elements[tensor]! - first);
    return {
      ordinal,
      tensor,
      index,
      first,
      offset: byteLength(dtype, first),
      elements,
      bytes: byteLength(dtype, elements),
    };
  }
}
