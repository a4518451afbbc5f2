/** Looks of a watch: often enough that what has stood still for its time is seen within a quarter of that more. */
const LOOKS = 4;

/**
 * A timer of a watch. It keeps no process alive, and it counts only time in which this process ran: one that was stopped,
 * or computed without a break, could hear nobody.
 */
export class Pulse {
  #timer: NodeJS.Timeout | undefined;
  #last = 0;

  /** @param look Is told how many milliseconds have passed, after everything that has arrived meanwhile was taken. */
  constructor(private readonly look: (elapsed: number) => void) {}

  /** Looks every `period` milliseconds, from now on. */
  beat(period: number): void {
    this.stop();
    this.#last = performance.now();
    // A timer runs before sockets are read: what came while this process was busy is heard first.
    this.#timer = setInterval(() => setImmediate(() => this.#beaten(period)), period).unref();
  }

  #beaten(period: number): void {
    if (!this.#timer) return;
    const now = performance.now();
    const elapsed = Math.min(now - this.#last, 2 * period);
    this.#last = now;
    this.look(elapsed);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** How often to look, so that `timeoutMs` is kept. */
export const period = (timeoutMs: number): number => Math.ceil(timeoutMs / LOOKS);
