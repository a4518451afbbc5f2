import type { ChunkPlan } from "./chunk-plan.js";
import { xxh64 } from "./hash.js";

/** A chunk in its tensor's digest: its codec's number, u16, and its payload's hash, u64. */
const ENTRY_BYTES = 10;

/**
 * The digest of a transfer: xxh64 over the manifest's bytes and each tensor's digest, in the manifest's order; a
 * tensor's digest is xxh64 over its chunks in order, each as its codec's number (u16) and its payload's hash (u64). So a
 * tensor verifies alone, and the order of arrival does not matter.
 */
export class TransferDigest {
  readonly #hashes: BigUint64Array;
  readonly #codecs: Uint16Array;
  /** A tensor's chunks as they are hashed; used again for each tensor. */
  #entries = new DataView(new ArrayBuffer(ENTRY_BYTES));

  constructor(readonly plan: ChunkPlan) {
    this.#hashes = new BigUint64Array(plan.chunks);
    this.#codecs = new Uint16Array(plan.chunks);
  }

  /** Records a chunk. */
  add(ordinal: number, codecId: number, hash: bigint): void {
    this.#hashes[ordinal] = hash;
    this.#codecs[ordinal] = codecId;
  }

  /** Digest of tensor `i`. */
  tensor(i: number): bigint {
    const { first, count } = this.plan.range(i);
    const bytes = count * ENTRY_BYTES;
    if (this.#entries.byteLength < bytes) this.#entries = new DataView(new ArrayBuffer(bytes));
    for (let k = 0; k < count; k++) {
      this.#entries.setUint16(k * ENTRY_BYTES, this.#codecs[first + k]!, true);
      this.#entries.setBigUint64(k * ENTRY_BYTES + 2, this.#hashes[first + k]!, true);
    }
    return xxh64(new Uint8Array(this.#entries.buffer, 0, bytes));
  }

  /** Digest of the transfer, once every chunk is recorded. */
  transfer(manifest: Uint8Array, tensors: number): bigint {
    const digests = new Uint8Array(tensors * 8);
    const view = new DataView(digests.buffer);
    for (let i = 0; i < tensors; i++) view.setBigUint64(i * 8, this.tensor(i), true);
    return xxh64(manifest, digests);
  }
}

/** A digest as 16 hexadecimal digits. */
export function formatDigest(digest: bigint): string {
  return digest.toString(16).padStart(16, "0");
}
