import { setImmediate } from "node:timers/promises";

/** How long sockets and timers wait for what is computed here. */
const LONGEST_MS = 20;

/**
 * Turns of the event loop, given between one step of a long computation and the next: of models in memory nothing else would,
 * since what is there already is awaited in none.
 */
export class Turns {
  #since = performance.now();

  /** Resolves in a later turn, where it is time for one. */
  async next(): Promise<void> {
    if (performance.now() - this.#since < LONGEST_MS) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
