import type { Output } from "./output.js";
import { counted } from "./report.js";
import { LineBound } from "./line-bound.js";
import { printable } from "./printable.js";

/** What a daemon says while it runs: lines for people on stderr, unless it is to be quiet, or with `--json` an object each on stdout. */
export class Announcer {
  readonly #faults = new LineBound((lines) => {
    this.say({ event: "left-out", lines }, `${counted(lines, "line")} of refusals and failures left out`);
  });

  constructor(
    private readonly output: Output,
    private readonly quiet = false,
  ) {}

  say(json: object, text: string): void {
    if (this.output.json) this.output.result(JSON.stringify(json));
    else if (!this.quiet) this.output.note(printable(text));
  }

  /** The same of what peers can cause as often as they like. */
  fault(json: object, text: string): void {
    if (this.#faults.take()) this.say(json, text);
  }

  /** Nothing more comes. */
  end(): void {
    this.#faults.end();
  }
}
