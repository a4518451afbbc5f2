import type { Arrangement } from "./arrangement.js";

/** One federation, from its first round to its last. */
export interface Trial extends Arrangement {
  readonly seed: number;
  readonly rounds: number;
}

/** What a trial's process says in the end. */
export interface TrialResult {
  /** After each round, of all test digits. */
  readonly accuracy: readonly number[];
  readonly loss: readonly number[];
  /** Of the model that a client gets in a round, and of the update that it sends, as they travel; and of either as f32. */
  readonly modelBytes: number;
  readonly updateBytes: number;
  readonly sourceBytes: number;
}
