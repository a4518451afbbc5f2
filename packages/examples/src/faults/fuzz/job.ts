/** What a process of fuzzing is to do. */
export interface WorkerTask {
  readonly seed: number;
  /** Cases from here on, up to and without `end`. */
  readonly from: number;
  readonly end: number;
  readonly scratch: string;
}

/** What it says of it, now and then, and at the end. */
export interface WorkerReport {
  readonly cases: number;
  /** How victims came out. */
  readonly codes: readonly (readonly [string, number])[];
  readonly victims: readonly (readonly [string, number])[];
  readonly broken: readonly string[];
  readonly peakRss: number;
  readonly over: boolean;
}
