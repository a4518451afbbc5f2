import type { TransferOptions } from "../options.js";
import type { RetryEvent } from "../session/retry.js";
import type { TransferSummary } from "../session/summary.js";
import type { Interrupt } from "./interrupt.js";
import type { Output } from "./output.js";
import type { PositionCounter } from "./position.js";
import { openProgressView } from "./progress-view.js";
import { retryText, summaryJson, summaryText, type TransferWords } from "./report.js";

/** What a command is run with. */
export interface Invocation {
  readonly output: Output;
  /** Aborts when the user cancels. */
  readonly signal: AbortSignal;
  readonly interrupt: Interrupt;
}

/** How a transfer is shown. */
export interface TransferView extends TransferWords {
  readonly counter: PositionCounter;
}

/**
 * Runs a transfer: its progress while it goes on, its result when it is over.
 * @param attempts How often it is tried again, where it can be.
 */
export async function runTransfer(
  { output, signal }: Invocation,
  words: TransferView,
  transfer: (options: Pick<TransferOptions, "signal" | "onProgress" | "retry">) => Promise<TransferSummary>,
  attempts = 0,
): Promise<void> {
  const view = await openProgressView(output, words.counter);
  let summary: TransferSummary;
  try {
    const onRetry = (event: RetryEvent): void => {
      view.stop();
      if (!output.quiet) output.note(retryText(event));
    };
    summary = await transfer({
      signal,
      onProgress: (event) => view.show(event),
      retry: { attempts, onRetry },
    });
  } finally {
    view.stop();
  }
  if (output.json) output.result(summaryJson(summary));
  else if (!output.quiet) output.result(summaryText(words, summary));
}
