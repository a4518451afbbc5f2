import { TensorwireError } from "@tensorwire/core";
import { EXIT_CODES } from "./exit-code.js";

const SIGNALS = { SIGINT: EXIT_CODES.interrupted, SIGTERM: EXIT_CODES.terminated } as const;
type Signal = keyof typeof SIGNALS;

// npm, npx and terminals each deliver the same Ctrl-C: what follows this closely is no second one.
const ECHO_MS = 500;

/**
 * The first SIGINT or SIGTERM cancels the transfer, which tells the peer and cleans up; the second kills. Commands can have
 * stages before that.
 */
export class Interrupt {
  readonly #abort = new AbortController();
  /** What the next signal aborts. */
  readonly #stages = [this.#abort];
  #received: { readonly name: Signal; readonly at: number } | undefined;

  constructor() {
    for (const name of Object.keys(SIGNALS) as Signal[]) process.on(name, () => this.#receive(name));
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Aborts at one signal more than there were stages for. Called before the first comes. */
  stage(): AbortSignal {
    const stage = new AbortController();
    this.#stages.push(stage);
    return stage.signal;
  }

  /** The exit code of the signal that came, if one did. */
  get exitCode(): number | undefined {
    return this.#received && SIGNALS[this.#received.name];
  }

  #receive(name: Signal): void {
    const now = performance.now();
    if (this.#received && now - this.#received.at <= ECHO_MS) return;
    this.#received = { name, at: now };
    const stage = this.#stages.shift();
    if (stage) return stage.abort(new TensorwireError("ABORTED", `the transfer was cancelled by ${name}`));
    process.removeAllListeners(name);
    process.kill(process.pid, name);
  }
}
