/** What a process of the bench is asked to do. */
export type FederatedJob =
  /** Reads the mean of artifacts, chunk by chunk, and lets it fall. */
  | { readonly kind: "aggregate"; readonly paths: readonly string[]; readonly accumulator: "f32" | "f64" }
  /** Opens a round. */
  | {
      readonly kind: "collect";
      readonly folder: string;
      readonly clients: number;
      readonly budgetBytes: number;
    }
  /** Waits for the round's end. */
  | { readonly kind: "arrived" }
  /** Writes the mean of what has arrived, encoded. */
  | { readonly kind: "conclude"; readonly to: string }
  /** Sends an artifact as so many clients, all at once. */
  | { readonly kind: "upload"; readonly source: string; readonly url: string; readonly clients: number }
  /** Publishes a model, encoded before it says so. */
  | { readonly kind: "publish"; readonly source: string; readonly spool: string }
  /** Sends a file as it is, each time anew, to whoever asks for it. */
  | { readonly kind: "share"; readonly path: string }
  /** Sends the bytes of a file, and nothing else, to whoever comes. */
  | { readonly kind: "offer"; readonly path: string }
  /** Receives so often, all at once, and lets it fall: a model, or the bytes that are offered. */
  | { readonly kind: "fetch" | "drain"; readonly url: string; readonly receivers: number }
  /** Says what it has taken of the processor. */
  | { readonly kind: "cpu" };

/** What came of it: what a job has no use for is not there. */
export interface FederatedResult {
  readonly url?: string | undefined;
  readonly seconds?: number | undefined;
  /** Of all threads, since the process began; of `aggregate`, while it was at it. */
  readonly cpuSeconds: number;
  /** Of that, before the first chunk: opening, and looking through. */
  readonly openCpuSeconds?: number | undefined;
  /** The file that a publication is served from. */
  readonly artifact?: string | undefined;
}

export type FederatedAnswer = { readonly result: FederatedResult } | { readonly error: string };
