import { totalmem } from "node:os";
import { MemoryBudget } from "./memory-budget.js";

let budget: MemoryBudget | undefined;

/** The budget of transfers that name none: half of the memory that the process may use, by its control group or the machine. */
export function processBudget(): MemoryBudget {
  // Without a limit it is 0, unknown, or some number beyond any memory.
  budget ??= new MemoryBudget(
    Math.floor(Math.min(process.constrainedMemory() || totalmem(), totalmem()) / 2),
  );
  return budget;
}
