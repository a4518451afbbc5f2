/** What every kind of fault is told. */
export interface FaultOptions {
  /** All draws come of it: the same seed, the same faults. */
  readonly seed: number;
  /** Cases, where the kind counts them; its own number without it. */
  readonly count?: number | undefined;
  /** Goes on for so long instead, where the kind can. */
  readonly seconds?: number | undefined;
  /** The first case: one that failed can be run again alone. */
  readonly from: number;
  /** A folder for files, empty, of the kind's own. */
  readonly scratch: string;
  /** For people: what is under way. */
  say(line: string): void;
}

/** A promise of the library's, and whether it was kept. */
export interface Verdict {
  /** In the words of `docs/guides/reliability.md`. */
  readonly promise: string;
  readonly kept: boolean;
  /** What was counted or measured. */
  readonly figures: string;
}

/** What a kind of fault came to. */
export interface FaultReport {
  /** Counts, a row each. */
  readonly rows: readonly (readonly [what: string, ...figures: (string | number)[]])[];
  readonly verdicts: readonly Verdict[];
  /** What of it this machine cannot do. */
  readonly skipped?: readonly string[] | undefined;
}

/** One kind of fault. */
export interface FaultKind {
  readonly name: string;
  /** What is done to transfers. */
  readonly about: string;
  run(options: FaultOptions): Promise<FaultReport>;
}

/** A verdict on what must never be: each instance is a line that says how to see it again. */
export function never(promise: string, instances: readonly string[], cases: number): Verdict {
  const shown = instances.slice(0, 5).join("; ");
  const more = instances.length > 5 ? `; and ${instances.length - 5} more` : "";
  const figures = instances.length ? `${instances.length} of ${cases}: ${shown}${more}` : `0 of ${cases}`;
  return { promise, kept: instances.length === 0, figures };
}
