import type { ChunkPlan } from "./chunk-plan.js";
import { TensorwireError } from "./errors.js";
import {
  type ChunkDigest,
  chunkDigestBytes,
  type Integrity,
  SHA256_BYTES,
  writeChunkDigest,
} from "./frame/held.js";
import { xxh64, xxh64From } from "./hash.js";

/** SHA-256 over the concatenation of `parts`: each runtime has its own, and the transfer's owner passes it. */
export type Sha256 = (...parts: readonly Uint8Array[]) => Uint8Array;

/** A manifest's part in the digests of a transfer. Its bytes, of hundreds of thousands of tensors, are many. */
export interface HashedManifest {
  /** XXH64 of the manifest's bytes and of what follows them. */
  xxh64(rest: Uint8Array): bigint;
  /** SHA-256 of the manifest's bytes, with that integrity. */
  readonly sha256: Uint8Array | undefined;
}

/** In the place of a codec's number, which it never is: the chunk is not recorded. */
export const NO_CODEC = 0xffff;

/** Bytes of a chunk's codec number in its entry. */
const CODEC_BYTES = 2;

/**
 * The digest of a transfer: xxh64 over the manifest's bytes and each tensor's digest, in the manifest's order; a
 * tensor's digest is xxh64 over its chunks in order, each as its codec's number (u16) and its payload's hash (u64). So a
 * tensor verifies alone, and the order of arrival does not matter. With integrity `sha256` there is a second one beside
 * it, made in the same way of SHA-256. Chunks that are not recorded are left out: of a part of a model it is the part's.
 * @example
 * const manifest = encodeManifest({ kind: "model", chunkBytes: 32768, metadata: new Map(), tensors: [
 *   { name: "x", dtype: "F32", shape: [3], codec: { name: "none" } },
 * ] });
 * const plan = new ChunkPlan([{ name: "x", dtype: "F32", shape: [3] }], 32768);
 * const digest = new TransferDigest(plan);
 * digest.add(0, 0, xxh64(bytesOf(Float32Array.of(1, -0.5, 0.25))));
 * console.log(formatDigest(digest.transfer(manifest, 1))); // 0e42bad822273859
 */
export class TransferDigest {
  readonly #hashes: BigUint64Array;
  readonly #codecs: Uint16Array;
  /** With integrity `sha256`: of each chunk's payload. */
  readonly #sha256s: Uint8Array | undefined;
  /** A tensor's chunks as they are hashed; used again for each tensor. */
  #entries = new DataView(new ArrayBuffer(chunkDigestBytes("xxh64")));

  /** @param hash With integrity `sha256`. */
  constructor(
    /** The chunks that are recorded. */
    readonly plan: ChunkPlan,
    private readonly hash?: Sha256 | undefined,
  ) {
    this.#hashes = new BigUint64Array(plan.chunks);
    this.#codecs = new Uint16Array(plan.chunks).fill(NO_CODEC);
    if (hash) this.#sha256s = new Uint8Array(plan.chunks * SHA256_BYTES);
  }

  /** `sha256` where there is a second digest. */
  get integrity(): Integrity {
    return this.hash ? "sha256" : "xxh64";
  }

  /** Records a chunk. */
  add(ordinal: number, codecId: number, hash: bigint, sha256?: Uint8Array | undefined): void {
    this.#hashes[ordinal] = hash;
    this.#codecs[ordinal] = codecId;
    if (!this.#sha256s) return;
    if (!sha256) throw new TensorwireError("INTERNAL", `chunk ${ordinal} of the plan has no SHA-256`);
    this.#sha256s.set(sha256, ordinal * SHA256_BYTES);
  }

  /** What was recorded of a chunk. */
  chunk(ordinal: number): ChunkDigest {
    const digest = { codec: this.#codecs[ordinal]!, hash: this.#hashes[ordinal]! };
    const at = ordinal * SHA256_BYTES;
    const sha256 = this.#sha256s?.slice(at, at + SHA256_BYTES);
    return sha256 ? { ...digest, sha256 } : digest;
  }

  /** Digest of tensor `i`. */
  tensor(i: number): bigint {
    const { first, count } = this.plan.range(i);
    const entry = chunkDigestBytes("xxh64");
    const entries = this.#room(count * entry);
    let used = 0;
    for (let k = 0; k < count; k++) {
      const codec = this.#codecs[first + k]!;
      if (codec === NO_CODEC) continue;
      writeChunkDigest(entries, used, { codec, hash: this.#hashes[first + k]! });
      used += entry;
    }
    return xxh64(new Uint8Array(entries.buffer, 0, used));
  }

  /** What the digests take of a manifest, for whoever does not keep its bytes until every chunk is recorded. */
  manifest(bytes: Uint8Array): HashedManifest {
    return { xxh64: xxh64From(bytes), sha256: this.hash?.(bytes) };
  }

  /** Digest of the transfer, once every chunk of it is recorded. */
  transfer(manifest: Uint8Array | HashedManifest, tensors: number): bigint {
    const digests = new Uint8Array(tensors * 8);
    const view = new DataView(digests.buffer);
    for (let i = 0; i < tensors; i++) view.setBigUint64(i * 8, this.tensor(i), true);
    return ArrayBuffer.isView(manifest) ? xxh64(manifest, digests) : manifest.xxh64(digests);
  }

  /** The other digest of the transfer, once every chunk is recorded: none but with integrity `sha256`. */
  sha256(manifest: Uint8Array | HashedManifest, tensors: number): Uint8Array | undefined {
    const { hash } = this;
    if (!hash) return undefined;
    const digests = new Uint8Array((1 + tensors) * SHA256_BYTES);
    digests.set(ArrayBuffer.isView(manifest) ? hash(manifest) : manifest.sha256!);
    for (let i = 0; i < tensors; i++) digests.set(this.tensorSha256(i)!, (1 + i) * SHA256_BYTES);
    return hash(digests);
  }

  /** The other digest of tensor `i`, once its chunks are recorded. */
  tensorSha256(i: number): Uint8Array | undefined {
    const { hash } = this;
    if (!hash) return undefined;
    const { first, count } = this.plan.range(i);
    const entry = CODEC_BYTES + SHA256_BYTES;
    const entries = this.#room(count * entry);
    const bytes = new Uint8Array(entries.buffer, 0, count * entry);
    let used = 0;
    for (let k = 0; k < count; k++) {
      const codec = this.#codecs[first + k]!;
      if (codec === NO_CODEC) continue;
      entries.setUint16(used, codec, true);
      const at = (first + k) * SHA256_BYTES;
      bytes.set(this.#sha256s!.subarray(at, at + SHA256_BYTES), used + CODEC_BYTES);
      used += entry;
    }
    return hash(bytes.subarray(0, used));
  }

  #room(bytes: number): DataView {
    if (this.#entries.byteLength < bytes) this.#entries = new DataView(new ArrayBuffer(bytes));
    return this.#entries;
  }
}

/**
 * A digest as 16 hexadecimal digits.
 * @example
 * console.log(formatDigest(255n)); // 00000000000000ff
 */
export function formatDigest(digest: bigint): string {
  return digest.toString(16).padStart(16, "0");
}

/**
 * A SHA-256 as 64 hexadecimal digits.
 * @example
 * console.log(formatSha256(Uint8Array.of(1, 255))); // 01ff
 */
export function formatSha256(digest: Uint8Array): string {
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Whether two SHA-256 are the same, or both are missing.
 * @example
 * console.log(sameSha256(Uint8Array.of(1), Uint8Array.of(1)), sameSha256(Uint8Array.of(1), undefined)); // true false
 */
export function sameSha256(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (!a || !b) return a === b;
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
