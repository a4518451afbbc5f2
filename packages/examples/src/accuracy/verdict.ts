import { EXACT, JUDGED, labelOf } from "./arrangement.js";
import type { Outcome } from "./trials.js";

/** By how many percentage points the accuracy after the last round may differ from the exact one's. */
export const MOST_POINTS = 1;

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** In percent, after the last round: the mean of all seeds. */
export const lastAccuracy = ({ results }: Outcome): number =>
  100 * mean(results.map(({ accuracy }) => accuracy.at(-1)!));

export interface Verdict {
  readonly what: string;
  /** Percentage points from the exact one. */
  readonly points: number;
  readonly pass: boolean;
}

/** Whether each arrangement that is judged comes as far as the exact one does; nothing where that was not tried. */
export function verdicts(outcomes: readonly Outcome[]): Verdict[] {
  const exact = outcomes.find(({ arrangement }) => arrangement === EXACT);
  if (!exact) return [];
  return outcomes
    .filter(({ arrangement }) => JUDGED.includes(arrangement))
    .map((outcome) => {
      const points = lastAccuracy(outcome) - lastAccuracy(exact);
      return { what: labelOf(outcome.arrangement), points, pass: Math.abs(points) <= MOST_POINTS };
    });
}
