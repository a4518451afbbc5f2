import { type Chunk, type ChunkPlan, SHA256_BYTES, type Sha256 } from "@tensorwire/core";

const CODEC_BYTES = 2;
const ENTRY_BYTES = CODEC_BYTES + SHA256_BYTES;

/** SHA-256 of tensors, of the payloads that are read: known of those whose chunks are all read, in order. */
export class PayloadDigests {
  readonly #known = new Map<number, Uint8Array>();
  #tensor = -1;
  #entries = new Uint8Array(0);
  #chunks = 0;

  constructor(
    private readonly plan: ChunkPlan,
    private readonly hash: Sha256,
  ) {}

  /** @returns The tensor's, where this was its last chunk. */
  add({ tensor, index }: Chunk, codec: number, sha256: Uint8Array): Uint8Array | undefined {
    const { count } = this.plan.range(tensor);
    if (index === 0) this.#begin(tensor, count);
    else if (tensor !== this.#tensor || index !== this.#chunks) {
      this.#tensor = -1;
      return undefined;
    }
    const at = index * ENTRY_BYTES;
    new DataView(this.#entries.buffer).setUint16(at, codec, true);
    this.#entries.set(sha256, at + CODEC_BYTES);
    this.#chunks++;
    if (this.#chunks < count) return undefined;
    this.#tensor = -1;
    return this.hash(this.#entries.subarray(0, count * ENTRY_BYTES));
  }

  #begin(tensor: number, count: number): void {
    this.#tensor = tensor;
    this.#chunks = 0;
    if (this.#entries.length < count * ENTRY_BYTES) this.#entries = new Uint8Array(count * ENTRY_BYTES);
  }

  /** For a digest of them all. */
  keep(tensor: number, sha256: Uint8Array): void {
    this.#known.set(tensor, sha256);
  }

  /** Undefined where not all of its chunks were read. */
  of(tensor: number): Uint8Array | undefined {
    return this.plan.range(tensor).count > 0 ? this.#known.get(tensor) : this.hash();
  }
}
