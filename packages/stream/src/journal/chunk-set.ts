/** A set of ordinals: a bit a chunk. */
export class ChunkSet {
  readonly #bits: Uint8Array;
  #count = 0;

  constructor(readonly chunks: number) {
    this.#bits = new Uint8Array(Math.ceil(chunks / 8));
  }

  get count(): number {
    return this.#count;
  }

  has(ordinal: number): boolean {
    return (this.#bits[ordinal >>> 3]! & (1 << (ordinal & 7))) !== 0;
  }

  add(ordinal: number): void {
    if (this.has(ordinal)) return;
    this.#bits[ordinal >>> 3]! |= 1 << (ordinal & 7);
    this.#count++;
  }

  delete(ordinal: number): void {
    if (!this.has(ordinal)) return;
    this.#bits[ordinal >>> 3]! &= ~(1 << (ordinal & 7));
    this.#count--;
  }

  clear(): void {
    this.#bits.fill(0);
    this.#count = 0;
  }
}
