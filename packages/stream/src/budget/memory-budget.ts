import { TensorwireError } from "@tensorwire/core";
import { type Deferred, deferred } from "../session/deferred.js";
import { PartHold } from "./part-hold.js";
import { type Hold, Share, type ShareOwner, type ShareTerms } from "./share.js";

/**
 * The part of a budget that shares may have beyond their minimums without using it: so a transfer has its whole window at
 * once where there is plenty, and whatever lies idle, most of the budget is there for others.
 */
const PLENTY = 1 / 4;

/** Whose share it is to be. */
export interface Party {
  readonly terms: ShareTerms;
  readonly owner: ShareOwner;
}

/** Where a share comes from. */
export interface Reserve {
  /** As of a `MemoryBudget`. */
  open(terms: ShareTerms, owner: ShareOwner, signal: AbortSignal): Promise<Hold>;
}

/** Shares that wait for their minimums, all of them at once, and hold nothing. */
interface Waiting {
  readonly shares: readonly Share[];
  readonly minimum: number;
  readonly ready: Deferred<void>;
}

/**
 * Memory for all transfers of a process together. Each reserves its minimum before it takes or promises any, or waits in
 * turn; beyond that it grows step by step. No share waits for the memory of another to grow while a third waits for its
 * minimum; and what rests keeps nobody waiting.
 * @example
 * const budget = new MemoryBudget(256 * 2 ** 20);
 * await Promise.all(["a", "b"].map((name) => streamModel("model.safetensors", `ws://host:9000/models/${name}`, { budget })));
 */
export class MemoryBudget implements Reserve {
  #reserved = 0;
  /** What shares hold beyond their minimums. */
  #beyond = 0;
  #shares = 0;
  readonly #waiting: Waiting[] = [];
  /** Shares that are not at their most, in the order in which they grow. */
  readonly #growing = new Set<Share>();
  /** Shares that nothing needs at the moment. */
  readonly #resting = new Set<Share>();
  #serving = false;

  /**
   * @param within What it is a part of: its transfers take no more than this one has, and take it of that one. Whoever waits for
   * its turn here holds nothing there.
   * @throws TensorwireError `INVALID_ARGUMENT`.
   */
  constructor(
    /** What all of its transfers may take together. */
    readonly bytes: number,
    private readonly within?: MemoryBudget,
  ) {
    if (Number.isSafeInteger(bytes) && bytes > 0) return;
    throw new TensorwireError("INVALID_ARGUMENT", `a budget is a positive number of bytes, not ${bytes}`);
  }

  /** Bytes that are reserved: never more than there are. */
  get reservedBytes(): number {
    return this.#reserved;
  }

  /** Transfers that have their minimum, at least. */
  get transfers(): number {
    return this.#shares;
  }

  /** Transfers that wait for their minimum. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * A share of one step, at once or in turn: until then nothing is held.
   * @param signal Ends the waiting.
   * @throws TensorwireError `LIMIT_EXCEEDED` where the minimum alone is over the budget; whatever the signal was aborted for.
   */
  async open(terms: ShareTerms, owner: ShareOwner, signal: AbortSignal): Promise<Hold> {
    const [share] = await this.openTogether([{ terms, owner }], signal);
    return share!;
  }

  /** Shares of one step each, all of them or none: who needs several must not hold some while it waits for the others. */
  async openTogether(parties: readonly Party[], signal: AbortSignal): Promise<readonly Hold[]> {
    const { within } = this;
    if (!within) return this.#open(parties, signal);
    const holds = parties.map(({ owner }) => new PartHold(owner));
    const parts = await this.#open(
      parties.map(({ terms }, i) => ({ terms, owner: holds[i]!.ofPart })),
      signal,
    );
    try {
      // Whoever has both waits for neither: what is held here meanwhile comes free.
      const wholes = await within.openTogether(
        parties.map(({ terms }, i) => ({ terms, owner: holds[i]!.ofWhole })),
        signal,
      );
      for (const [i, hold] of holds.entries()) hold.begin(parts[i]!, wholes[i]!);
      return holds;
    } catch (error) {
      for (const part of parts) part.close();
      throw error;
    }
  }

  async #open(parties: readonly Party[], signal: AbortSignal): Promise<readonly Share[]> {
    signal.throwIfAborted();
    const shares = parties.map(({ terms, owner }) => new Share(terms, owner, this));
    const minimum = shares.reduce((bytes, share) => bytes + share.minimum, 0);
    if (minimum > this.bytes) throw this.#tooSmall(minimum);
    const waiting: Waiting = { shares, minimum, ready: deferred<void>() };
    const abort = (): void => {
      const at = this.#waiting.indexOf(waiting);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      waiting.ready.reject(signal.reason);
      this.serve();
    };
    signal.addEventListener("abort", abort, { once: true });
    this.#waiting.push(waiting);
    this.serve();
    try {
      await waiting.ready.promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
    // It was given its minimum, and gave up before it heard of it.
    if (signal.aborted) {
      for (const share of shares) share.close();
      signal.throwIfAborted();
    }
    return shares;
  }

  #tooSmall(minimum: number): TensorwireError {
    return new TensorwireError(
      "LIMIT_EXCEEDED",
      `a chunk of this model takes ${minimum} bytes of memory, and all transfers together may take ${this.bytes}: ` +
        "give them a larger budget, or the model smaller chunks (chunkBytes)",
    );
  }

  /**
   * Whether somebody needs the last step of `share` more than it does: one without its minimum; one that would use it, and
   * has less; or whoever comes next, where it lies idle and little is left.
   */
  prefersOthers(share: Share): boolean {
    if (this.#waiting.length) return true;
    const last = share.lastStepBytes;
    for (const other of this.#growing) {
      const less = other !== share && other.beyond + other.nextStepBytes <= share.beyond - last;
      if (less && this.#deserves(other, this.#spare + last)) return true;
    }
    return share.idle && share.beyond > this.#spare;
  }

  /** Whether it is to have one more step: what it would leave idle, only out of what is plenty, which is more than it has. */
  #deserves(share: Share, spare: number): boolean {
    if (!share.wants) return false;
    const bytes = share.nextStepBytes;
    return !share.idle || share.beyond + bytes <= spare - bytes;
  }

  /** Counts what a share gives back. */
  release(bytes: number, beyond: number): void {
    this.#reserved -= bytes;
    this.#beyond -= beyond;
  }

  /** A share is not at its most: to the end of the line. */
  queue(share: Share): void {
    this.#growing.delete(share);
    this.#growing.add(share);
  }

  /** Nothing needs the share. */
  rest(share: Share): void {
    this.#resting.add(share);
    this.serve();
  }

  /** Something needs the share again. */
  wake(share: Share): void {
    this.#resting.delete(share);
  }

  /** The share is over. */
  forget(share: Share): void {
    if (share.steps > 0) this.#shares--;
    this.#growing.delete(share);
  }

  /** Something came free, or somebody needs more: gives what can be given, to those without a minimum first. */
  serve(): void {
    // Whoever is given something can ask for more within the call: the loop that runs sees to that too.
    if (this.#serving) return;
    this.#serving = true;
    try {
      while (this.#serveMinimum() || this.#serveStep());
    } finally {
      this.#serving = false;
    }
  }

  #serveMinimum(): boolean {
    const next = this.#waiting[0];
    if (!next) return false;
    for (const share of this.#resting) {
      if (this.#reserved + next.minimum <= this.bytes) break;
      share.reclaim();
    }
    if (this.#reserved + next.minimum > this.bytes) return false;
    this.#waiting.shift();
    this.#shares += next.shares.length;
    this.#reserved += next.minimum;
    for (const share of next.shares) share.begin();
    next.ready.resolve();
    return true;
  }

  #serveStep(): boolean {
    if (this.#waiting.length) return false;
    for (const share of this.#growing) {
      if (!this.#deserves(share, this.#spare)) continue;
      const bytes = share.nextStepBytes;
      // Nobody overtakes one whose steps are large.
      if (this.#reserved + bytes > this.bytes) return false;
      this.#reserved += bytes;
      this.#beyond += bytes;
      this.#growing.delete(share);
      share.grow();
      return true;
    }
    return false;
  }

  /** What is left of the part that shares may take before they have shown that they use it. */
  get #spare(): number {
    return this.bytes * PLENTY - this.#beyond;
  }
}
