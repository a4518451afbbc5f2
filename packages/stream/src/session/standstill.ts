/**
 * How long something has stood still. It is looked at now and then, so that it costs nothing where things move: what moves
 * only counts on.
 */
export class Standstill {
  #mark: number | undefined;
  #milliseconds = 0;

  /**
   * @param mark A count that grows with every move.
   * @param elapsed Milliseconds since the last look.
   * @returns Milliseconds for which nothing has moved.
   */
  look(mark: number, elapsed: number): number {
    this.#milliseconds = mark === this.#mark ? this.#milliseconds + elapsed : 0;
    this.#mark = mark;
    return this.#milliseconds;
  }

  /** Counts from here: the time until now was nobody's fault. */
  forget(): void {
    this.#milliseconds = 0;
  }
}
