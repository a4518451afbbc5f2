import type { ProgressEvent } from "../session/progress.js";
import type { Output } from "./output.js";
import { type PositionCounter, positionOf } from "./position.js";
import type { ProgressView } from "./progress-view.js";

const STEP_PERCENT = 10;
const FASTEST_SECONDS = 1;
// A log of a slow transfer shows that it lives.
const SLOWEST_SECONDS = 30;

/** Plain lines, for logs and pipes: one for each tenth, at most one a second; and the last. */
export class ProgressLines implements ProgressView {
  #percent = 0;
  #seconds = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly counter: PositionCounter,
    private readonly output: Pick<Output, "note">,
  ) {}

  show(event: ProgressEvent): void {
    const { percent, words } = positionOf(event, this.counter);
    if (event.phase !== "done" && !this.#due(percent, event.seconds)) return;
    this.#percent = percent;
    this.#seconds = event.seconds;
    this.output.note(`${String(percent).padStart(3)} % ${words}`);
  }

  #due(percent: number, seconds: number): boolean {
    const passed = seconds - this.#seconds;
    if (passed < FASTEST_SECONDS) return false;
    const step = Math.floor(percent / STEP_PERCENT) > Math.floor(this.#percent / STEP_PERCENT);
    return step || passed >= SLOWEST_SECONDS;
  }

  stop(): void {}
}
