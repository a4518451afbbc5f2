import type { ByteReader } from "./byte-reader.js";

/** Most frames of an artifact are one record and a large payload: a page holds what is read of them. */
const WINDOW_BYTES = 4096;

/** Looks at small pieces of a file, mostly forward, a page a read. */
export class FileWindow {
  readonly #page = new Uint8Array(WINDOW_BYTES);
  #begin = 0;
  #length = 0;

  constructor(private readonly file: ByteReader) {}

  /** Bytes that lie within the file; good until the next call. */
  async view(position: number, bytes: number): Promise<Uint8Array> {
    if (bytes > WINDOW_BYTES) return this.copy(position, bytes);
    if (position < this.#begin || position + bytes > this.#begin + this.#length) {
      this.#length = 0;
      const length = Math.min(WINDOW_BYTES, this.file.size - position);
      await this.file.readInto(position, this.#page.subarray(0, length));
      this.#begin = position;
      this.#length = length;
    }
    const from = position - this.#begin;
    return this.#page.subarray(from, from + bytes);
  }

  /** The same, to keep. */
  async copy(position: number, bytes: number): Promise<Uint8Array> {
    const copy = new Uint8Array(bytes);
    await this.file.readInto(position, copy);
    return copy;
  }
}
