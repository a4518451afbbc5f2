import { availableParallelism } from "node:os";
import { EXACT, JUDGED } from "../accuracy/arrangement.js";
import { runTrials } from "../accuracy/trials.js";
import { lastAccuracy, MOST_POINTS, verdicts } from "../accuracy/verdict.js";
import type { BenchSize, Row } from "./rows.js";

/** How far a federation comes whose models travel by each codec; `npm run bench:accuracy` draws the curves. */
export async function accuracyRows({ rounds, seeds }: BenchSize): Promise<Row[]> {
  const jobs = Math.min(4, availableParallelism());
  const outcomes = await runTrials([EXACT, ...JUDGED], { rounds, seeds, jobs });
  const exact = outcomes.find(({ arrangement }) => arrangement === EXACT)!;
  return [
    {
      what: `accuracy after ${rounds} rounds, mean of ${seeds.length} seeds, none`,
      found: `${lastAccuracy(exact).toFixed(2)} %`,
    },
    ...verdicts(outcomes).map(({ what, points, pass }) => ({
      what: `accuracy, ${what}`,
      found: `${points.toFixed(2)} percentage points from none`,
      bar: { text: `at most ${MOST_POINTS}`, pass },
    })),
  ];
}
