import { listenTo, type ObservedTransfer } from "../diagnostics/events.js";
import { redacted } from "../diagnostics/redaction.js";
import { clock, cut, type Sight, sightOf } from "./sight.js";
import { type DashboardEvent, type DashboardState, INITIAL_STATE, next } from "./state.js";

/**
 * Keeps the state of a dashboard by what this process says of its transfers: when one begins, is interrupted and ends. It
 * hears of no chunk; how far a transfer is it sees when somebody looks.
 */
export class DashboardWatch {
  #state = INITIAL_STATE;
  readonly #transfers = new Map<number, ObservedTransfer>();
  /** Ends it. */
  readonly stop: () => void;

  constructor() {
    this.stop = listenTo({
      "tensorwire:transfer:start": ({ transfer }) => {
        this.#transfers.set(transfer.id, transfer);
        const sight = sightOf(transfer);
        if (sight) this.#happened({ type: "began", sight });
      },
      "tensorwire:transfer:retry": ({ transfer, error }) =>
        this.#happened({ type: "interrupted", id: transfer.id, code: error.code }),
      "tensorwire:transfer:end": ({ transfer, error }) => {
        if (!this.#transfers.delete(transfer.id)) return;
        const sight = sightOf(transfer);
        if (!sight) return this.#happened({ type: "gone", id: transfer.id });
        const message = error && cut(redacted(error.message));
        this.#happened({ type: "ended", sight, at: clock(), code: error?.code, message });
      },
      "tensorwire:server:refuse": () => this.#happened({ type: "refused" }),
    });
  }

  get state(): DashboardState {
    return this.#state;
  }

  /** Sees how far each transfer is. @returns When that was. */
  look(): number {
    const at = clock();
    const sights: Sight[] = [];
    for (const transfer of this.#transfers.values()) {
      const sight = sightOf(transfer);
      if (sight) sights.push(sight);
      else this.#happened({ type: "gone", id: transfer.id });
    }
    this.#happened({ type: "looked", at, sights });
    return at;
  }

  #happened(event: DashboardEvent): void {
    this.#state = next(this.#state, event);
  }
}
