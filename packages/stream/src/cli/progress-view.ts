import type { ProgressEvent } from "../session/progress.js";
import type { Output } from "./output.js";
import type { PositionCounter } from "./position.js";
import { ProgressBar } from "./progress-bar.js";
import { ProgressLines } from "./progress-lines.js";

/** Shows a transfer's progress on stderr. */
export interface ProgressView {
  show(event: ProgressEvent): void;
  /** The transfer is over, either way. */
  stop(): void;
}

/** A bar on a terminal, lines elsewhere, nothing where nothing is asked for. */
export function openProgressView(output: Output, counter: PositionCounter): ProgressView {
  if (output.quiet) return { show() {}, stop() {} };
  return process.stderr.isTTY ? new ProgressBar(counter) : new ProgressLines(counter, output);
}
