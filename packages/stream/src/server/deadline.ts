/** A timer takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** A time at which something is done, however far off. It keeps no process alive. */
export class Deadline {
  #timer: NodeJS.Timeout | undefined;

  /** @param at In milliseconds since 1970; infinity is never. */
  constructor(
    private readonly at: number,
    private readonly reached: () => void,
  ) {
    this.#wait();
  }

  #wait(): void {
    if (this.at === Number.POSITIVE_INFINITY) return;
    const left = this.at - Date.now();
    const wake = left > MAX_TIMER_MS ? () => this.#wait() : this.reached;
    this.#timer = setTimeout(wake, Math.min(Math.max(left, 0), MAX_TIMER_MS)).unref();
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}
