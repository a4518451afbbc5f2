import type { MemoryBudget } from "./memory-budget.js";

/** What a transfer takes. A step is room for one chunk more, or for as many small ones. */
export interface ShareTerms {
  /** Bytes of memory that so many steps take, at most. The first step is the minimum. */
  bytes(steps: number): number;
  /** Steps that it can use. */
  readonly maxSteps: number;
}

/** Whose share it is. Asked at any time, and told of each step. */
export interface ShareOwner {
  /** Whether it could use a step more. */
  readonly wants: boolean;
  /** Whether its peer has left unused what it has: a step more would lie there too. */
  readonly idle: boolean;
  /** It has a step more than before. */
  grown(): void;
  /** Its share rests, and others wait: it is to give all of it back, at once. */
  reclaim?(): void;
}

/** What one transfer holds of a budget. */
export interface Hold {
  readonly steps: number;
  readonly bytes: number;
  /** Whether others need its last step more. */
  readonly pressed: boolean;
  /** Its owner could use more than before, or its peer has used what it had. */
  ask(): void;
  /** Nothing needs the last `free` steps now: gives back those that others need more. At least one step stays. */
  settle(free: number): void;
  /** Gives back all beyond so many steps, whoever needs it. At least one stays. */
  shrink(steps: number): void;
  /** Nothing needs it until its owner says so: whoever waits for a minimum can have it meanwhile. */
  rest(): void;
  wake(): void;
  /** Gives all of it back. Later calls change nothing. */
  close(): void;
}

/** The hold of a budget that is one for itself. */
export class Share implements Hold {
  #steps = 0;
  #closed = false;

  constructor(
    private readonly terms: ShareTerms,
    private readonly owner: ShareOwner,
    private readonly budget: MemoryBudget,
  ) {}

  get steps(): number {
    return this.#steps;
  }

  get bytes(): number {
    return this.#steps && this.terms.bytes(this.#steps);
  }

  /** Bytes of the first step. */
  get minimum(): number {
    return this.terms.bytes(1);
  }

  /** Bytes beyond the first step. */
  get beyond(): number {
    return this.bytes - this.minimum;
  }

  get nextStepBytes(): number {
    return this.terms.bytes(this.#steps + 1) - this.bytes;
  }

  get lastStepBytes(): number {
    return this.bytes - this.terms.bytes(this.#steps - 1);
  }

  get wants(): boolean {
    return this.owner.wants;
  }

  get idle(): boolean {
    return this.owner.idle;
  }

  get pressed(): boolean {
    return this.budget.prefersOthers(this);
  }

  /** The budget has given it its minimum. */
  begin(): void {
    this.#steps = 1;
    this.#queue();
  }

  /** The budget has given it a step. */
  grow(): void {
    this.#steps++;
    this.#queue();
    this.owner.grown();
  }

  #queue(): void {
    if (this.#steps < this.terms.maxSteps) this.budget.queue(this);
  }

  ask(): void {
    if (!this.#closed && this.#steps < this.terms.maxSteps) this.budget.serve();
  }

  settle(free: number): void {
    for (let left = free; left > 0 && this.#steps > 1 && this.budget.prefersOthers(this); left--) {
      this.#less();
      this.budget.serve();
    }
  }

  shrink(steps: number): void {
    const least = Math.max(1, steps);
    if (this.#steps <= least) return;
    // Nobody is served before it is done: it could be this one, for ever.
    while (this.#steps > least) this.#less();
    this.budget.serve();
  }

  #less(): void {
    const bytes = this.lastStepBytes;
    this.#steps--;
    this.budget.release(bytes, bytes);
    this.#queue();
  }

  rest(): void {
    if (!this.#closed) this.budget.rest(this);
  }

  wake(): void {
    this.budget.wake(this);
  }

  reclaim(): void {
    this.owner.reclaim?.();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.wake();
    this.budget.forget(this);
    this.budget.release(this.bytes, Math.max(0, this.beyond));
    this.#steps = 0;
    this.budget.serve();
  }
}
