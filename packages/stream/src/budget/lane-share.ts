import { type Deferred, deferred } from "../session/deferred.js";
import { CommonBudget } from "./common-budget.js";
import type { Reserve } from "./memory-budget.js";
import type { SenderMemory } from "./sender-memory.js";
import type { Hold, ShareOwner } from "./share.js";

/**
 * A sender's share of the budget: what the chunks take that are read, encoded or on their way out. It begins with one, and
 * grows when another one could be read meanwhile.
 */
export class LaneShare implements ShareOwner {
  // What is made ready lies there until the peer takes it: a sender grows out of what is plenty alone.
  readonly idle = true;
  #share: Hold | undefined;
  /** Source bytes of chunks that are there. */
  #used = 0;
  #waiting: Deferred<void> | undefined;
  #failed: { readonly error: unknown } | undefined;
  #reopen: (() => Promise<void>) | undefined;
  #resting = false;

  constructor(private readonly memory: SenderMemory) {}

  /** Before anything is read. @throws TensorwireError as `MemoryBudget.open`. */
  async open(budget: Reserve, signal: AbortSignal): Promise<void> {
    this.#share = await budget.open(this.memory, this, signal);
    this.memory.keep(this.#share.steps);
    // Of a common budget both ends have theirs, or neither: there is no third one to wait for.
    if (!(budget instanceof CommonBudget)) this.#reopen = () => this.open(budget, signal);
  }

  /**
   * Nothing is read before the peer grants credit, or at all. Whoever waits for memory can have this end's meanwhile: it may be
   * the connection beside this one, for whose chunk the peer waits.
   */
  rest(): void {
    this.#resting = true;
    this.#settle();
  }

  #settle(): void {
    if (this.#resting && this.#used === 0 && this.#reopen) this.#share?.rest();
  }

  #wakeUp(): void {
    if (!this.#resting) return;
    this.#resting = false;
    this.#share?.wake();
  }

  reclaim(): void {
    this.memory.keep(0);
    this.#share?.close();
    this.#share = undefined;
  }

  get wants(): boolean {
    return this.#waiting !== undefined;
  }

  grown(): void {
    if (!this.#share) return;
    this.memory.keep(this.#share.steps);
    this.#wake();
  }

  /** Counts a chunk that is about to be read, if there is room for it. */
  tryTake(bytes: number): boolean {
    this.#wakeUp();
    if (this.#failed || !this.#fits(bytes)) return false;
    this.#used += bytes;
    return true;
  }

  /** Waits until there is room for a chunk, and counts it. */
  async take(bytes: number): Promise<void> {
    this.#wakeUp();
    while (!this.#failed && !this.#fits(bytes)) {
      if (!this.#share && this.#reopen) {
        await this.#reopen();
        continue;
      }
      const waiting = (this.#waiting ??= deferred<void>());
      this.#share?.ask();
      if (this.#waiting) await waiting.promise;
    }
    if (this.#failed) throw this.#failed.error;
    this.#used += bytes;
  }

  #fits(bytes: number): boolean {
    const steps = this.#share?.steps ?? 0;
    return steps > 0 && (this.#used === 0 || this.#used + bytes <= steps * this.memory.stepBytes);
  }

  /** A chunk is sent, and its buffers are back. */
  give(bytes: number): void {
    this.#used -= bytes;
    const share = this.#share;
    if (share && share.steps > 1) {
      const { steps } = share;
      share.settle(steps - Math.ceil(this.#used / this.memory.stepBytes));
      if (share.steps !== steps) this.memory.keep(share.steps);
    }
    this.#settle();
    this.#wake();
  }

  fail(error: unknown): void {
    this.#failed ??= { error };
    this.#wake();
  }

  /** Every buffer is back, or will be when a source that is busy lets go of it. */
  close(): void {
    this.memory.keep(0);
    this.#share?.close();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }
}
