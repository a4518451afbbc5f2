import type { ByteReader } from "../source/byte-reader.js";

/** Most frames of an artifact are one record and a large payload: a page holds what is read of them. */
const WINDOW_BYTES = 4096;

/** Bytes that are looked at by position, in small pieces. */
export interface ByteView {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  /** Bytes that lie within `size`; good until the next call. */
  view(position: number, bytes: number): Promise<Uint8Array>;
  /** The same, to keep. */
  copy(position: number, bytes: number): Promise<Uint8Array>;
}

/** Looks at small pieces of a file, mostly forward, a page a read. */
export class ByteWindow implements ByteView {
  readonly #page = new Uint8Array(WINDOW_BYTES);
  #begin = 0;
  #length = 0;

  constructor(private readonly reader: Pick<ByteReader, "name" | "size" | "readInto">) {}

  get name(): string {
    return this.reader.name;
  }

  get size(): number {
    return this.reader.size;
  }

  async view(position: number, bytes: number): Promise<Uint8Array> {
    if (bytes > WINDOW_BYTES) return this.copy(position, bytes);
    if (position < this.#begin || position + bytes > this.#begin + this.#length) {
      this.#length = 0;
      const length = Math.min(WINDOW_BYTES, this.size - position);
      await this.reader.readInto(position, this.#page.subarray(0, length));
      this.#begin = position;
      this.#length = length;
    }
    const from = position - this.#begin;
    return this.#page.subarray(from, from + bytes);
  }

  async copy(position: number, bytes: number): Promise<Uint8Array> {
    const copy = new Uint8Array(bytes);
    await this.reader.readInto(position, copy);
    return copy;
  }
}

/** A part of a file that was read in one piece. It ends where the part does. */
export class LoadedPart implements ByteView {
  readonly size: number;

  private constructor(
    readonly name: string,
    private readonly begin: number,
    private readonly bytes: Uint8Array,
  ) {
    this.size = begin + bytes.length;
  }

  static async load(reader: ByteReader, from: number, to: number): Promise<LoadedPart> {
    const bytes = new Uint8Array(to - from);
    await reader.readInto(from, bytes);
    return new LoadedPart(reader.name, from, bytes);
  }

  async view(position: number, bytes: number): Promise<Uint8Array> {
    return this.bytes.subarray(position - this.begin, position - this.begin + bytes);
  }

  copy(position: number, bytes: number): Promise<Uint8Array> {
    return this.view(position, bytes);
  }
}
