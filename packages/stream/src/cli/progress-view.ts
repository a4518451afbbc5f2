import type { ProgressEvent } from "../session/progress.js";
import type { Output } from "./output.js";
import type { PositionCounter } from "./position.js";
import { ProgressLines } from "./progress-lines.js";

/** Shows a transfer's progress on stderr. */
export interface ProgressView {
  show(event: ProgressEvent): void;
  /** The transfer is over, either way. */
  stop(): void;
}

/** A bar on a terminal, lines elsewhere, nothing where nothing is asked for. */
export async function openProgressView(output: Output, counter: PositionCounter): Promise<ProgressView> {
  if (output.quiet) return { show() {}, stop() {} };
  if (!process.stderr.isTTY) return new ProgressLines(counter, output);
  const { ProgressBar } = await import("./progress-bar.js");
  return new ProgressBar(counter);
}
