import {
  type Chunk,
  type ChunkDigest,
  type ChunkPlan,
  type ChunkRange,
  commonRanges,
  type Held,
  missingRanges,
  sameSha256,
  TensorwireError,
  type TransferDigest,
  type Want,
} from "@tensorwire/core";

/**
 * Chunks that the receiving end has, with what it verified them by. Either end keeps one: the receiver of what it holds, the
 * sender of what it was told of.
 */
export class HeldChunks {
  /** 1 for each chunk that is held. */
  readonly #held: Uint8Array;
  #bytes = 0;

  /** @param digest Takes what each chunk was verified by. */
  constructor(
    private readonly plan: ChunkPlan,
    private readonly digest: TransferDigest,
  ) {
    this.#held = new Uint8Array(plan.chunks);
  }

  /** Source bytes of all of them. */
  get bytes(): number {
    return this.#bytes;
  }

  has({ ordinal }: Chunk): boolean {
    return this.#held[ordinal] === 1;
  }

  /** What the chunk was verified by. */
  of({ ordinal }: Chunk): ChunkDigest {
    return this.digest.chunk(ordinal);
  }

  add(chunk: Chunk, { codec, hash, sha256 }: ChunkDigest): void {
    this.digest.add(chunk.ordinal, codec, hash, sha256);
    if (this.#held[chunk.ordinal] === 1) return;
    this.#held[chunk.ordinal] = 1;
    this.#bytes += chunk.bytes;
  }

  addRun({ first, chunks }: Held): void {
    let next = 0;
    for (const chunk of this.plan.walk([{ first, count: chunks.length }])) this.add(chunk, chunks[next++]!);
  }

  remove(chunk: Chunk): void {
    if (this.#held[chunk.ordinal] === 0) return;
    this.#held[chunk.ordinal] = 0;
    this.#bytes -= chunk.bytes;
  }

  clear(): void {
    this.#held.fill(0);
    this.#bytes = 0;
  }

  /** They and others together. */
  and(others: readonly ChunkRange[]): ChunkRange[] {
    const { chunks } = this.plan;
    const neither = commonRanges(missingRanges(this.ranges(), chunks), missingRanges(others, chunks));
    return missingRanges(neither, chunks);
  }

  /** The first `most` runs of them, each as long as it can be. */
  ranges(most = Number.POSITIVE_INFINITY): ChunkRange[] {
    const ranges: ChunkRange[] = [];
    for (let at = this.#held.indexOf(1); at >= 0 && ranges.length < most; ) {
      const end = this.#held.indexOf(0, at);
      const next = end < 0 ? this.#held.length : end;
      ranges.push({ first: at, count: next - at });
      at = this.#held.indexOf(1, next);
    }
    return ranges;
  }

  /** The chunks of a range in runs of at most `most`. */
  *runs({ first, count }: ChunkRange, most: number): Generator<Held> {
    for (let at = first; at < first + count; at += most) {
      const length = Math.min(most, first + count - at);
      yield { first: at, chunks: Array.from({ length }, (_, i) => this.digest.chunk(at + i)) };
    }
  }

  /** Tensors whose last chunk is held. */
  get tensors(): number {
    let tensors = 0;
    for (let i = 0; i < this.plan.tensors; i++) {
      const { first, count } = this.plan.range(i);
      if (count > 0 && this.#held[first + count - 1] === 1) tensors++;
    }
    return tensors;
  }
}

/** Whether two chunks are the same by what they are verified by. */
export function sameDigest(a: ChunkDigest, b: ChunkDigest): boolean {
  return a.codec === b.codec && a.hash === b.hash && sameSha256(a.sha256, b.sha256);
}

/**
 * No chunk is both held and wanted; and none is neither, but where a part is asked for. Both are ascending and without overlap.
 * @throws TensorwireError `PROTOCOL`.
 */
export function checkDivided(
  held: readonly ChunkRange[],
  { ranges: wanted, part }: Want,
  chunks: number,
): void {
  if (part && commonRanges(held, wanted).length === 0) return;
  const gaps = missingRanges(held, chunks);
  const rest = missingRanges(missingRanges(wanted, chunks), chunks);
  const same =
    gaps.length === rest.length &&
    gaps.every(({ first, count }, i) => first === rest[i]!.first && count === rest[i]!.count);
  if (same) return;
  throw new TensorwireError(
    "PROTOCOL",
    "WANT and HELD do not divide the plan: a chunk is in both, or in none",
  );
}
