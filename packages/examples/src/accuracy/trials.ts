import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Arrangement } from "./arrangement.js";
import type { Trial, TrialResult } from "./trial.js";

/** The trials of one arrangement: one for each seed, the same seeds for all. */
export interface Outcome {
  readonly arrangement: Arrangement;
  readonly results: readonly TrialResult[];
}

export interface TrialOptions {
  readonly seeds: readonly number[];
  readonly rounds: number;
  /** Trials at a time. */
  readonly jobs: number;
  readonly onTrial?: (trial: Trial, result: TrialResult) => void;
}

export async function runTrials(
  arrangements: readonly Arrangement[],
  { seeds, rounds, jobs, onTrial }: TrialOptions,
): Promise<Outcome[]> {
  const outcomes = arrangements.map((arrangement) => ({ arrangement, results: [] as TrialResult[] }));
  const waiting = outcomes.flatMap(({ arrangement, results }) =>
    seeds.map((seed, place) => ({ trial: { ...arrangement, seed, rounds }, results, place })),
  );
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const { trial, results, place } = next;
      const result = await runTrial(trial);
      results[place] = result;
      onTrial?.(trial, result);
    }
  };
  try {
    await Promise.all(Array.from({ length: jobs }, work));
    return outcomes;
  } finally {
    // Where one has failed, the others need not begin.
    waiting.length = 0;
  }
}

function runTrial(trial: Trial): Promise<TrialResult> {
  const child = fork(fileURLToPath(new URL("./trial-process.js", import.meta.url)));
  return new Promise((resolve, reject) => {
    child.once("message", (result) => resolve(result as TrialResult));
    child.once("exit", (code, signal) => reject(new Error(`a trial ended with ${signal ?? code}`)));
    child.send(trial);
  });
}
