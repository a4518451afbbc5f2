import type { TransferOptions } from "../options.js";
import type { TransferSummary } from "../session/summary.js";
import type { Output } from "./output.js";
import type { PositionCounter } from "./position.js";
import { openProgressView } from "./progress-view.js";
import { summaryJson, summaryText } from "./report.js";

/** What a command is run with. */
export interface Invocation {
  readonly output: Output;
  /** Aborts when the user cancels. */
  readonly signal: AbortSignal;
}

export interface TransferWords {
  readonly counter: PositionCounter;
  /** What was done, e.g. `sent model.safetensors`. */
  readonly deed: string;
  /** What the end of it means. */
  confirmation(summary: TransferSummary): string;
}

/** Runs a transfer: its progress while it goes on, its result when it is over. */
export async function runTransfer(
  { output, signal }: Invocation,
  { counter, deed, confirmation }: TransferWords,
  transfer: (options: Pick<TransferOptions, "signal" | "onProgress">) => Promise<TransferSummary>,
): Promise<void> {
  const view = openProgressView(output, counter);
  let summary: TransferSummary;
  try {
    summary = await transfer({ signal, onProgress: (event) => view.show(event) });
  } finally {
    view.stop();
  }
  if (output.json) output.result(summaryJson(summary));
  else if (!output.quiet) output.result(summaryText(deed, summary, confirmation(summary)));
}
