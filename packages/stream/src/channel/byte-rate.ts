/** A window of bytes in time: what was spent is waited for afterwards, so that no amount is too large. */
export class ByteRate {
  /** Bytes that may be spent without a wait; below zero, a debt. */
  #balance = 0;
  #at: number;

  /** @param now Milliseconds, from a clock that never goes back. */
  constructor(
    private readonly bytesPerSecond: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#at = now();
  }

  /** Bytes to move at once: a twentieth of a second's, within what sockets like to be given. */
  get portionBytes(): number {
    return Math.ceil(Math.min(256 * 1024, Math.max(512, this.bytesPerSecond / 20)));
  }

  spend(bytes: number): void {
    this.#settle();
    this.#balance -= bytes;
  }

  /** Milliseconds until the debt is paid. */
  get delay(): number {
    this.#settle();
    return this.#balance >= 0 ? 0 : Math.ceil((-this.#balance / this.bytesPerSecond) * 1000);
  }

  #settle(): void {
    const now = this.now();
    const earned = ((now - this.#at) / 1000) * this.bytesPerSecond;
    this.#at = now;
    // A rate that was not used is not saved up: it would be a burst later, beside others' traffic.
    this.#balance = Math.min(this.#balance + earned, 0);
  }
}
