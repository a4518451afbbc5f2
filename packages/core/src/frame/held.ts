import type { ChunkRange } from "../chunk-plan.js";
import { TensorwireError } from "../errors.js";

/** How chunks are hashed for the transfer digest: `sha256` holds against somebody who means harm. */
export type Integrity = "xxh64" | "sha256";

/** Bytes of a SHA-256. */
export const SHA256_BYTES = 32;

/** What of a chunk goes into the digest, and so is all that is kept of one that an earlier attempt brought. */
export interface ChunkDigest {
  /** Number of the codec that made the payload. */
  readonly codec: number;
  /** xxh64 of the unpacked payload. */
  readonly hash: bigint;
  /** SHA-256 of the unpacked payload, with integrity `sha256`. */
  readonly sha256?: Uint8Array | undefined;
}

/** Chunks that a receiver has already: a run of consecutive ones, with what it verified them by. */
export interface Held {
  /** Ordinal of the first. */
  readonly first: number;
  /** What they were verified by, one after the other. */
  readonly chunks: readonly ChunkDigest[];
}

const HELD_HEAD = 8;

/** Bytes that a chunk takes in HELD, in a journal, and in the bookkeeping of either end. */
export function chunkDigestBytes(integrity: Integrity): number {
  return integrity === "sha256" ? 10 + SHA256_BYTES : 10;
}

/**
 * Writes a chunk's digest at `at`.
 * @example
 * const view = new DataView(new ArrayBuffer(chunkDigestBytes("xxh64")));
 * writeChunkDigest(view, 0, { codec: 2, hash: 5n });
 * console.log(readChunkDigest(view, 0, "xxh64").hash); // 5n
 */
export function writeChunkDigest(view: DataView, at: number, { codec, hash, sha256 }: ChunkDigest): void {
  view.setUint16(at, codec, true);
  view.setBigUint64(at + 2, hash, true);
  if (sha256) new Uint8Array(view.buffer, view.byteOffset + at + 10, SHA256_BYTES).set(sha256);
}

/** Reads what `writeChunkDigest` wrote. */
export function readChunkDigest(view: DataView, at: number, integrity: Integrity): ChunkDigest {
  const digest = { codec: view.getUint16(at, true), hash: view.getBigUint64(at + 2, true) };
  if (integrity !== "sha256") return digest;
  return { ...digest, sha256: new Uint8Array(view.buffer, view.byteOffset + at + 10, SHA256_BYTES).slice() };
}

/**
 * Body of HELD.
 * @example
 * const held = { first: 2, chunks: [{ codec: 0, hash: 1n }] };
 * const body = encodeHeld(held, "xxh64");
 * console.log(body.length - 8 === chunkDigestBytes("xxh64"), maxHeldChunks(1024, "xxh64")); // true 101
 * const { first } = parseHeld(body, "xxh64", 0, 5);
 * console.log(missingRanges([{ first, count: 1 }], 5)); // [ { first: 0, count: 2 }, { first: 3, count: 2 } ]
 */
export function encodeHeld({ first, chunks }: Held, integrity: Integrity): Uint8Array {
  const entry = chunkDigestBytes(integrity);
  const body = new Uint8Array(HELD_HEAD + chunks.length * entry);
  const view = new DataView(body.buffer);
  view.setUint32(0, first, true);
  view.setUint32(4, chunks.length, true);
  chunks.forEach((chunk, i) => {
    writeChunkDigest(view, HELD_HEAD + i * entry, chunk);
  });
  return body;
}

/** Chunks that one HELD may name, so that its body stays within `maxControlBytes`. */
export function maxHeldChunks(maxControlBytes: number, integrity: Integrity): number {
  return Math.max(1, Math.floor((maxControlBytes - HELD_HEAD) / chunkDigestBytes(integrity)));
}

/**
 * Reads a body of HELD.
 * @param from The first ordinal that may be named: after the last of the HELD before it.
 * @param chunks Chunks in the plan: no run may reach past it.
 * @throws TensorwireError `PROTOCOL`.
 */
export function parseHeld(body: Uint8Array, integrity: Integrity, from: number, chunks: number): Held {
  const entry = chunkDigestBytes(integrity);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const count = body.length < HELD_HEAD ? 0 : view.getUint32(4, true);
  if (count === 0 || body.length !== HELD_HEAD + count * entry) {
    throw new TensorwireError("PROTOCOL", `HELD: ${count} chunks in ${body.length} bytes`);
  }
  const first = view.getUint32(0, true);
  if (first < from || first + count > chunks) {
    throw new TensorwireError(
      "PROTOCOL",
      `HELD: chunks ${first}+${count} of a plan of ${chunks}, after ${from}`,
    );
  }
  const digests = Array.from({ length: count }, (_, i) =>
    readChunkDigest(view, HELD_HEAD + i * entry, integrity),
  );
  return { first, chunks: digests };
}

/** Where a set of ordinals ends, as ranges: those of a plan that are not in `held`. */
export function missingRanges(held: Iterable<ChunkRange>, chunks: number): ChunkRange[] {
  const missing: ChunkRange[] = [];
  let next = 0;
  for (const { first, count } of held) {
    if (first > next) missing.push({ first: next, count: first - next });
    next = first + count;
  }
  if (next < chunks) missing.push({ first: next, count: chunks - next });
  return missing;
}

/**
 * What two sets of ordinals have in common, both as ascending ranges.
 * @example
 * console.log(commonRanges([{ first: 0, count: 4 }], [{ first: 2, count: 9 }])); // [ { first: 2, count: 2 } ]
 */
export function commonRanges(a: readonly ChunkRange[], b: readonly ChunkRange[]): ChunkRange[] {
  const common: ChunkRange[] = [];
  for (let [i, k] = [0, 0]; i < a.length && k < b.length; ) {
    const [endA, endB] = [a[i]!.first + a[i]!.count, b[k]!.first + b[k]!.count];
    const first = Math.max(a[i]!.first, b[k]!.first);
    const count = Math.min(endA, endB) - first;
    if (count > 0) common.push({ first, count });
    if (endA <= endB) i++;
    if (endB <= endA) k++;
  }
  return common;
}
