import { type ChunkDigest, chunkDigestBytes, type Integrity, writeChunkDigest } from "@tensorwire/core";

const FIRST_BYTES = 4096;
const RUN_HEAD_BYTES = 8;

/**
 * Chunks that are written and in no record yet, in the bytes that the record will have: a run of consecutive ones is its
 * first ordinal, their number, and their digests. A chunk costs its digest's bytes and no object.
 */
export class NotedChunks {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #runs = 0;
  #runAt = 0;
  #next = -1;
  #count = 0;

  constructor(private readonly integrity: Integrity) {}

  /** Chunks in it. */
  get count(): number {
    return this.#count;
  }

  get runs(): number {
    return this.#runs;
  }

  /** Valid until the next `add`. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  add(ordinal: number, digest: ChunkDigest): void {
    const entry = chunkDigestBytes(this.integrity);
    if (this.#length + RUN_HEAD_BYTES + entry > this.#bytes.length) this.#grow();
    if (ordinal !== this.#next) {
      this.#runAt = this.#length;
      this.#view.setUint32(this.#length, ordinal, true);
      this.#view.setUint32(this.#length + 4, 0, true);
      this.#length += RUN_HEAD_BYTES;
      this.#runs++;
    }
    writeChunkDigest(this.#view, this.#length, digest);
    this.#length += entry;
    this.#view.setUint32(this.#runAt + 4, this.#view.getUint32(this.#runAt + 4, true) + 1, true);
    this.#next = ordinal + 1;
    this.#count++;
  }

  /** Empty again; its memory is kept for the next ones. */
  clear(): void {
    this.#length = 0;
    this.#runs = 0;
    this.#count = 0;
    this.#next = -1;
  }

  #grow(): void {
    const larger = new Uint8Array(this.#bytes.length * 2);
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}
