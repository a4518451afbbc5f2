import {
  type ChunkDigest,
  type ChunkRange,
  chunkDigestBytes,
  type Held,
  type Integrity,
  readChunkDigest,
} from "@tensorwire/core";
import { ChunkSet } from "./chunk-set.js";

const RUN_HEAD_BYTES = 8;

/** The chunks that a journal's records note and do not take back, by ordinal: a digest's bytes for each chunk of the plan. */
export class JournaledChunks {
  readonly set: ChunkSet;
  readonly #digests: Uint8Array;
  readonly #view: DataView;
  readonly #entry: number;

  constructor(
    chunks: number,
    private readonly integrity: Integrity,
  ) {
    this.set = new ChunkSet(chunks);
    this.#entry = chunkDigestBytes(integrity);
    this.#digests = new Uint8Array(chunks * this.#entry);
    this.#view = new DataView(this.#digests.buffer);
  }

  /** Takes the runs of a record; false where one reaches past the plan. */
  add(noted: Uint8Array, runs: number): boolean {
    const view = new DataView(noted.buffer, noted.byteOffset, noted.length);
    let at = 0;
    for (let run = 0; run < runs; run++) {
      const first = view.getUint32(at, true);
      const count = view.getUint32(at + 4, true);
      if (first + count > this.set.chunks) return false;
      at += RUN_HEAD_BYTES;
      this.#digests.set(noted.subarray(at, at + count * this.#entry), first * this.#entry);
      at += count * this.#entry;
      for (let i = 0; i < count; i++) this.set.add(first + i);
    }
    return true;
  }

  delete({ first, count }: ChunkRange): void {
    for (let i = 0; i < count; i++) this.set.delete(first + i);
  }

  clear(): void {
    this.set.clear();
  }

  /** What is held, in ascending runs. */
  runs(): Held[] {
    const found: Held[] = [];
    const { chunks } = this.set;
    for (let ordinal = 0; ordinal < chunks; ordinal++) {
      if (!this.set.has(ordinal)) continue;
      const first = ordinal;
      const digests: ChunkDigest[] = [];
      for (; ordinal < chunks && this.set.has(ordinal); ordinal++) {
        digests.push(readChunkDigest(this.#view, ordinal * this.#entry, this.integrity));
      }
      found.push({ first, chunks: digests });
    }
    return found;
  }
}
