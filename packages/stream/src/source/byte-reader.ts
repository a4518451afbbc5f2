import type { Answer, BufferPool, Loan } from "@tensorwire/core";

/** A run of bytes, by position. */
export interface ByteRange {
  readonly position: number;
  readonly bytes: number;
}

/** Bytes that are read by position, wherever they lie. One read at a time; ascending ones are the fast ones. */
export interface ByteReader {
  /** For messages: a path, a URL. */
  readonly name: string;
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
   * What will be read from now on, in ascending ranges, told before the first of them is asked for; the last call counts.
   * For readers that fetch ahead: what was not announced can be read as well.
   */
  expect?(ranges: readonly ByteRange[]): void;
  /** Gives back what was read ahead; parts of it that are lent stay with their owners. */
  forget(): void;
  /** @throws TensorwireError `SOURCE_CHANGED` where the bytes are known to be other ones than when it was opened. */
  verify(): Promise<void>;
  /** A read that is under way still delivers, to its caller alone. Idempotent. */
  close(): Promise<void>;
}
