import { type Chunk, type ChunkPlan, SHA256_BYTES, type Sha256, sameSha256 } from "@tensorwire/core";
import { ChunkSet } from "../journal/chunk-set.js";

const CODEC_BYTES = 2;
const ENTRY_BYTES = CODEC_BYTES + SHA256_BYTES;

/** SHA-256 of the payloads that were read, and so of the tensors of which all were, in whatever order, and by whomever. */
export class PayloadDigests {
  /** As the digest takes them. No memory is touched of chunks that are not read. */
  readonly #entries: Uint8Array;
  readonly #view: DataView;
  readonly #read: ChunkSet;
  /** Chunks of each tensor that were not read yet. */
  readonly #missing: Uint32Array;
  readonly #refused = new Set<number>();

  /** @param expected What an index has of a tensor. */
  constructor(
    private readonly plan: ChunkPlan,
    private readonly hash: Sha256,
    private readonly expected?: (tensor: number) => Uint8Array,
  ) {
    this.#entries = new Uint8Array(plan.chunks * ENTRY_BYTES);
    this.#view = new DataView(this.#entries.buffer);
    this.#read = new ChunkSet(plan.chunks);
    this.#missing = Uint32Array.from({ length: plan.tensors }, (_, i) => plan.range(i).count);
  }

  /**
   * @returns Whether the payload is the one that was read before, if it was, and all of its tensor, once they are read, are
   * those of the index.
   */
  add({ ordinal, tensor }: Chunk, codec: number, sha256: Uint8Array): boolean {
    const at = ordinal * ENTRY_BYTES;
    if (this.#read.has(ordinal)) {
      const before = this.#entries.subarray(at + CODEC_BYTES, at + ENTRY_BYTES);
      return sameSha256(before, sha256) && !this.#refused.has(tensor);
    }
    this.#view.setUint16(at, codec, true);
    this.#entries.set(sha256, at + CODEC_BYTES);
    this.#read.add(ordinal);
    if (--this.#missing[tensor]! > 0 || !this.expected) return true;
    if (sameSha256(this.of(tensor), this.expected(tensor))) return true;
    this.#refused.add(tensor);
    return false;
  }

  /** A tensor's. Undefined where not all of its chunks were read. */
  of(tensor: number): Uint8Array | undefined {
    if (this.#missing[tensor]! > 0) return undefined;
    const { first, count } = this.plan.range(tensor);
    return this.hash(this.#entries.subarray(first * ENTRY_BYTES, (first + count) * ENTRY_BYTES));
  }
}
