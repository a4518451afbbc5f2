/** Lines at once, where none have been written for a while. */
export const LINES_AT_ONCE = 100;

/** Milliseconds from one to the next after that. */
const INTERVAL_MS = 1000;

/**
 * How many lines strangers may cause: whoever is turned away comes again as often as it likes, and a log on a disk is no place to
 * fill. What is left out is counted, and said so.
 */
export class LineBound {
  #room = LINES_AT_ONCE;
  #filled = performance.now();
  #left = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param leftOut Is told how many lines were left out, when there is room for that again. */
  constructor(private readonly leftOut: (lines: number) => void) {}

  /** Whether one more may be written now. */
  take(): boolean {
    const now = performance.now();
    this.#room = Math.min(LINES_AT_ONCE, this.#room + (now - this.#filled) / INTERVAL_MS);
    this.#filled = now;
    if (this.#room >= 1 && this.#left === 0) {
      this.#room--;
      return true;
    }
    this.#left++;
    // Nothing more until that is said: else it would stand behind what came later.
    this.#timer ??= setTimeout(() => this.end(), 10 * INTERVAL_MS).unref();
    return false;
  }

  /** Says what has not been said. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const left = this.#left;
    this.#left = 0;
    if (left > 0) this.leftOut(left);
  }
}
