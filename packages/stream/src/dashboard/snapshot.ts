import type { MemoryBudget } from "../budget/memory-budget.js";
import { type Active, type DashboardState, type Ended, rateOf, type Rates } from "./state.js";

/** So many transfers are listed at once; of more their number is told. */
export const MAX_LISTED = 100;

/** A transfer under way, as a page shows it. */
export interface Listed extends Omit<Active, "recent"> {
  /** Source bytes a second. */
  readonly rate: number;
}

/** Memory of the process, in bytes. */
export interface MemoryFigures {
  readonly rss: number;
  readonly peakRss: number;
  /** Of one transfer: source bytes. */
  readonly window: number;
  readonly budgets: readonly BudgetFigures[];
}

export interface BudgetFigures {
  /** Whose: `send` and `receive` have one each, unless they share one. */
  readonly of: "send" | "receive" | "both";
  readonly reserved: number;
  readonly bytes: number;
  /** Transfers that wait for their turn. */
  readonly waiting: number;
}

/** What a page is sent. */
export interface Snapshot {
  /** Milliseconds since 1970, on the server's clock. */
  readonly at: number;
  /** It is the first for this page: what it had before is of another server, or of another time. */
  readonly first: boolean;
  readonly active: readonly Listed[];
  /** Transfers under way that are not listed. */
  readonly more: number;
  readonly done: number;
  readonly failed: number;
  readonly refused: number;
  /** What ended since the last snapshot, the oldest first. */
  readonly ended: readonly Ended[];
  /** The same of rates. */
  readonly rates: readonly Rates[];
  readonly memory: MemoryFigures;
}

/** How far a page is. */
export interface Told {
  /** The last transfer that ended of which it knows; -1 before the first snapshot. */
  readonly sequence: number;
  /** When its last rates were taken. */
  readonly at: number;
}

export const NOTHING_TOLD: Told = { sequence: -1, at: 0 };

/** What a page is sent that knows what it was told. */
export function snapshot(
  state: DashboardState,
  { at, told, memory }: { readonly at: number; readonly told: Told; readonly memory: MemoryFigures },
): Snapshot {
  const { done, failed, refused } = state;
  const listed = [...state.active.values()].slice(0, MAX_LISTED);
  return {
    at,
    first: told.sequence < 0,
    active: listed.map((active) => {
      const { recent: _, ...rest } = active;
      return { ...rest, rate: rateOf(active, at) };
    }),
    more: state.active.size - listed.length,
    done,
    failed,
    refused,
    ended: state.history.filter(({ sequence }) => sequence > told.sequence),
    rates: state.rates.filter((rates) => rates.at > told.at),
    memory,
  };
}

/** What a page knows after that snapshot. */
export const toldBy = ({ at, done, failed }: Snapshot): Told => ({ sequence: done + failed, at });

/** @param budgets Of what is sent, and of what is received: the same where they share one. */
export function memoryFigures(
  window: number,
  { send, receive }: Readonly<Record<"send" | "receive", MemoryBudget>>,
): MemoryFigures {
  const figures = (of: BudgetFigures["of"], budget: MemoryBudget): BudgetFigures => ({
    of,
    reserved: budget.reservedBytes,
    bytes: budget.bytes,
    waiting: budget.waiting,
  });
  return {
    rss: process.memoryUsage.rss(),
    peakRss: process.resourceUsage().maxRSS * 1024,
    window,
    budgets:
      send === receive ? [figures("both", send)] : [figures("send", send), figures("receive", receive)],
  };
}
