import type { Answer, BufferPool, Loan } from "@tensorwire/core";

/** Slabs of a pool for what a source fetches ahead: one at least, for what is read ahead of small tensors. */
export function slabsAhead(readAheadBytes: number | undefined, slabBytes: number): number {
  return Math.max(1, Math.floor((readAheadBytes ?? 0) / slabBytes));
}

/** A run of bytes, by position. */
export interface ByteRange {
  /** Of its first byte. */
  readonly position: number;
  /** How many. */
  readonly bytes: number;
}

/** Bytes that are read by position, wherever they lie. One read at a time; ascending ones are the fast ones. */
export interface ByteReader {
  /** For messages: a path, a URL. */
  readonly name: string;
  /** Bytes that there are. */
  readonly size: number;
  /** The version token of what is read, as of a `ModelSource`. None where nothing vouches for its state. */
  readonly version?: string | undefined;
  /**
   * `bytes` bytes from `position` on, which must lie within `size`; at once where they were read ahead.
   * @throws TensorwireError `SOURCE_READ`, `SOURCE_CHANGED`.
   */
  read(position: number, bytes: number, pool: BufferPool): Answer<Loan>;
  /** Fills `target` from `position` on. */
  readInto(position: number, target: Uint8Array): Promise<void>;
  /**
   * What will be read from now on, in ascending ranges, one for each read, told before the first of them is asked for; the last
   * call counts. For readers that fetch ahead: what was not announced can be read as well.
   */
  expect?(ranges: Iterable<ByteRange>): void;
  /** What it takes of the pool to fetch ahead, beyond what is asked for: whole slabs, or one. Default: one. */
  readonly readAheadBytes?: number | undefined;
  /** Nobody vouches for its state from one read to the next: `verify` is to be called in the end. Default: only where in doubt. */
  readonly unvouched?: boolean | undefined;
  /** Gives back what was read ahead; parts of it that are lent stay with their owners. */
  forget(): void;
  /**
   * Fails with `SOURCE_CHANGED` where the bytes are not those that were opened.
   * @throws TensorwireError `SOURCE_CHANGED` where the bytes are known to be other ones than when it was opened.
   */
  verify(): Promise<void>;
  /** A read that is under way still delivers, to its caller alone. Idempotent. */
  close(): Promise<void>;
}
