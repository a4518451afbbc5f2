/** How far a tensor, or several, came from the original. */
export interface ErrorFigures {
  readonly elements: number;
  /** Every element is the original's. */
  readonly exact: boolean;
  readonly maxAbs: number;
  readonly meanAbs: number;
  /** ‖x − y‖ / ‖x‖ */
  readonly relativeL2: number;
  readonly cosine: number;
  /** 20 · log10(‖x‖ / ‖x − y‖) */
  readonly snrDb: number;
}

/** Adds up errors as elements go by, in any number of pieces. */
export class ErrorSums {
  #elements = 0;
  #maxAbs = 0;
  #abs = 0;
  #squares = 0;
  #original = 0;
  #received = 0;
  #product = 0;

  add(original: ArrayLike<number>, received: ArrayLike<number>): void {
    for (let i = 0; i < original.length; i++) {
      const x = original[i]!;
      const y = received[i]!;
      const off = Math.abs(x - y);
      this.#abs += off;
      this.#squares += off * off;
      this.#original += x * x;
      this.#received += y * y;
      this.#product += x * y;
      if (!(off <= this.#maxAbs)) this.#maxAbs = off;
    }
    this.#elements += original.length;
  }

  /** Adds what others have summed. */
  merge(other: ErrorSums): void {
    this.#elements += other.#elements;
    this.#abs += other.#abs;
    this.#squares += other.#squares;
    this.#original += other.#original;
    this.#received += other.#received;
    this.#product += other.#product;
    if (!(other.#maxAbs <= this.#maxAbs)) this.#maxAbs = other.#maxAbs;
  }

  get figures(): ErrorFigures {
    const exact = this.#maxAbs === 0;
    const elements = this.#elements;
    const norms = Math.sqrt(this.#original) * Math.sqrt(this.#received);
    return {
      elements,
      exact,
      maxAbs: this.#maxAbs,
      meanAbs: elements ? this.#abs / elements : 0,
      relativeL2: exact ? 0 : Math.sqrt(this.#squares / this.#original),
      cosine: exact ? 1 : this.#product / norms,
      snrDb: exact ? Number.POSITIVE_INFINITY : 10 * Math.log10(this.#original / this.#squares),
    };
  }
}
