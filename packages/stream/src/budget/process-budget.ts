import { totalmem } from "node:os";
import { MemoryBudget } from "./memory-budget.js";

const budgets = new Map<"send" | "receive", MemoryBudget>();
let most = Number.POSITIVE_INFINITY;

/**
 * The budget of transfers that name none: a quarter of the memory that the process may use, by its control group or the
 * machine. Each direction has its own: two ends in one process, or a relay, would wait for each other under a common one.
 */
export function processBudget(direction: "send" | "receive"): MemoryBudget {
  let budget = budgets.get(direction);
  if (!budget) {
    // Without a limit it is 0, unknown, or some number beyond any memory.
    const bytes = Math.min(process.constrainedMemory() || totalmem(), totalmem());
    budget = new MemoryBudget(Math.min(Math.floor(bytes / 4), most));
    budgets.set(direction, budget);
  }
  return budget;
}

/** Whoever has the process to itself may want less than that. To be called before the first transfer. */
export function boundProcessBudgets(bytes: number): void {
  most = bytes;
}
