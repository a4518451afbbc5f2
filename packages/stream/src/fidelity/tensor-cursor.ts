import type { Loan } from "@tensorwire/core";
import type { ModelReader } from "./model-reader.js";

/** Elements of a tensor that are in memory: `elements` of them, from `first` of `bytes` on. */
export interface HeldElements {
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly elements: number;
}

/** Goes through a tensor in steps of any length, with one of its chunks in memory. */
export class TensorCursor {
  #ordinal: number;
  #loan: Loan | undefined;
  #first = 0;
  #elements = 0;

  constructor(
    private readonly reader: ModelReader,
    tensor: number,
  ) {
    this.#ordinal = reader.plan.range(tensor).first;
  }

  /** What is left of the chunk that is in memory; of the next one where nothing is. */
  async held(): Promise<HeldElements> {
    if (!this.#loan) {
      const chunk = this.reader.plan.chunk(this.#ordinal++);
      this.#loan = await this.reader.read(chunk);
      this.#first = 0;
      this.#elements = chunk.elements;
    }
    return { bytes: this.#loan.bytes, first: this.#first, elements: this.#elements };
  }

  /** Goes past the next `elements` of what is held. */
  skip(elements: number): void {
    this.#first += elements;
    this.#elements -= elements;
    if (this.#elements === 0) this.release();
  }

  /** Gives the chunk back, at the end or before it. */
  release(): void {
    this.#loan?.release();
    this.#loan = undefined;
  }
}
