import fc from "fast-check";
import type { MemoryBudget } from "../src/budget/memory-budget.js";
import type { Hold, ShareOwner } from "../src/budget/share.js";

/** A transfer as the budget sees it: what a step takes, whether it wants more, whether its peer is idle. */
export class Transfer implements ShareOwner {
  wants = true;
  idle = false;
  share: Hold | undefined;
  error: unknown;
  readonly ending = new AbortController();
  /** Told of each step, in order, with the number of steps that it has then. */
  readonly told: number[] = [];

  constructor(
    readonly step: number,
    readonly maxSteps = 8,
    readonly minimum = 2 * step,
  ) {}

  bytes(steps: number): number {
    return this.minimum + (steps - 1) * this.step;
  }

  grown(): void {
    this.told.push(this.share?.steps ?? Number.NaN);
  }

  async open(budget: MemoryBudget): Promise<this> {
    try {
      this.share = await budget.open(this, this, this.ending.signal);
    } catch (error) {
      this.error = error;
    }
    return this;
  }

  get held(): number {
    return this.share?.bytes ?? 0;
  }

  get steps(): number {
    return this.share?.steps ?? 0;
  }
}

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Step = { readonly kind: string; readonly of: number; readonly amount: number };

export const steps: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("open", "open", "close", "abort", "idle", "busy", "want", "rest", "settle", "settle"),
  of: fc.nat(30),
  amount: fc.integer({ min: 1, max: 40 }),
});
