import type { Verdict } from "../fault-kind.js";

/** What the process with mounts of its own is to do. */
export interface DiskTask {
  readonly seed: number;
  readonly from: number;
  readonly count: number;
  readonly scratch: string;
  /** It may mount: it is in a namespace of its own. */
  readonly mounts: boolean;
}

export interface DiskReport {
  readonly rows: readonly (readonly (string | number)[])[];
  readonly verdicts: readonly Verdict[];
  readonly skipped: readonly string[];
}
