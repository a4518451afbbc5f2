import type { Contender } from "../contender.js";
import { race } from "../race.js";
import type { BenchmarkContext } from "../section.js";

/** A row of a table without its runs, and who runs for it. */
export interface NvflareEntry<Row> {
  readonly row: WithoutRuns<Row>;
  readonly contender: Contender;
}

type WithoutRuns<Row> = Row extends unknown ? Omit<Row, "runs" | "failed"> : never;

export const LIMIT_SECONDS = 180;

export async function runEntries<Row>(
  { log, signal, quick }: BenchmarkContext,
  rounds: number,
  entries: readonly NvflareEntry<Row>[],
): Promise<Row[]> {
  const outcomes = await race(
    entries.map(({ contender }) => contender),
    { rounds: quick ? 1 : rounds, limitSeconds: LIMIT_SECONDS, log, signal },
  );
  return entries.map(({ row }, i) => ({ ...row, ...outcomes[i]! }) as Row);
}
