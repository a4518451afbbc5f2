import type { SlabAlignment } from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";

const ALIGNMENT = 64;

/** What sums are made in that are wider than their elements: the same memory for every chunk. */
export class SumMemory {
  #bytes = new Uint8Array(0);

  constructor(private readonly alignment: SlabAlignment | undefined) {}

  /** So many sums, zero. They are good until the next are asked for. */
  zeros(width: "f32" | "f64", elements: number): Float32Array | Float64Array {
    const bytes = elements * (width === "f32" ? 4 : 8);
    if (this.#bytes.length < bytes) this.#grow(bytes);
    const { buffer, byteOffset } = this.#bytes;
    const sums =
      width === "f32"
        ? new Float32Array(buffer, byteOffset, elements)
        : new Float64Array(buffer, byteOffset, elements);
    return sums.fill(0);
  }

  #grow(bytes: number): void {
    this.free();
    const buffer = new ArrayBuffer(bytes + ALIGNMENT);
    this.#bytes = new Uint8Array(buffer, this.alignment?.(buffer) ?? 0, bytes);
  }

  /** Gives the memory back at once. */
  free(): void {
    if (this.#bytes.length) discardSlab(this.#bytes.buffer);
    this.#bytes = new Uint8Array(0);
  }
}
