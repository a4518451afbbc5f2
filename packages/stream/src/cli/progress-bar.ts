import cliProgress from "cli-progress";
import type { ProgressEvent } from "../session/progress.js";
import { type PositionCounter, positionOf } from "./position.js";
import type { ProgressView } from "./progress-view.js";

const BAR_COLUMNS = 30;

/** A bar that redraws itself on a terminal's line. */
export class ProgressBar implements ProgressView {
  readonly #bar = new cliProgress.SingleBar({
    stream: process.stderr,
    hideCursor: true,
    barsize: BAR_COLUMNS,
    // Signals cancel the transfer, which stops the bar when it has: they are not the bar's to take.
    gracefulExit: false,
    format: (_options, _params, { percent, words }) => drawn(percent, words),
  });
  #started = false;

  constructor(private readonly counter: PositionCounter) {}

  show(event: ProgressEvent): void {
    const { bytes, percent, words } = positionOf(event, this.counter);
    if (!this.#started) this.#bar.start(event.totalBytes, bytes, { percent, words });
    else this.#bar.update(bytes, { percent, words });
    this.#started = true;
    if (event.phase === "done") this.stop();
  }

  /** Leaves the bar where it is; what comes later gets another one. */
  stop(): void {
    this.#bar.stop();
    this.#started = false;
  }
}

function drawn(percent: number, words: string): string {
  const filled = Math.floor((BAR_COLUMNS * percent) / 100);
  const bar = "█".repeat(filled) + "░".repeat(BAR_COLUMNS - filled);
  return `${bar} ${String(percent).padStart(3)} % ${words}`;
}
