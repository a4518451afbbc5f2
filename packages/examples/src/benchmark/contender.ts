import type { Command, ProcessFigures } from "./measured-process.js";

/** Something that brings a model from one process to another. */
export interface Contender {
  readonly name: string;
  /** The two programs, anew for each run. Either may say where it can be reached; the other is told. */
  commands(): { readonly sender: Command; readonly receiver: Command };
  /** What must lie there before a run. Not measured. */
  prepare?(): Promise<void>;
  /** Where neither says so: resolves when the receiver listens. The sender is started then, and not before. */
  readonly listening?: (signal: AbortSignal) => Promise<void>;
  /** Looks at what came of it, the first time. @throws Error where that is not right. */
  check?(run: Run): Promise<void>;
  /** Takes away what it made. Not measured. */
  clear(): Promise<void>;
  /** Fewer runs than the others: for what takes very long. */
  readonly rounds?: number;
}

/** From the start of both ends to the exit of both. */
export interface Run {
  readonly seconds: number;
  readonly sender: ProcessFigures;
  readonly receiver: ProcessFigures;
}

/** All runs of a contender, or why there are none. */
export interface Outcome {
  readonly name: string;
  readonly runs: readonly Run[];
  readonly failed?: string;
}
