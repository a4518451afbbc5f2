import { listenTo, type ObservedConnection, type ObservedTransfer } from "./events.js";
import type { Labels, MetricOf } from "./metrics.js";

/** Where numbers go: a counter grows, or a histogram gets another value. */
export type Record = (name: MetricOf<"counter" | "histogram">, value: number, labels: Labels) => void;

/** Turns events into numbers, from when it is made until it is stopped. */
export class Meter {
  // What was there before anybody counted is in neither.
  readonly #transfers = new Set<ObservedTransfer>();
  readonly #connections = new Set<ObservedConnection>();
  /** Ends it. */
  readonly stop: () => void;

  constructor(record: Record) {
    this.stop = listenTo({
      "tensorwire:connection:open": ({ connection }) => {
        this.#connections.add(connection);
        record("connections", 1, {});
      },
      "tensorwire:connection:close": ({ connection }) => void this.#connections.delete(connection),
      "tensorwire:transfer:start": ({ transfer }) => void this.#transfers.add(transfer),
      "tensorwire:transfer:chunk": ({ transfer: { role }, sourceBytes, wireBytes }) => {
        record("chunks", 1, { role });
        record("sourceBytes", sourceBytes, { role });
        record("wireBytes", wireBytes, { role });
      },
      "tensorwire:transfer:checkpoint": ({ transfer: { role } }) => record("checkpoints", 1, { role }),
      "tensorwire:transfer:resume": ({ transfer: { role }, sourceBytes }) =>
        record("resumedBytes", sourceBytes, { role }),
      "tensorwire:transfer:retry": ({ transfer: { role } }) => record("retries", 1, { role }),
      "tensorwire:transfer:end": ({ transfer, role, error, seconds }) => {
        this.#transfers.delete(transfer);
        record("transfers", 1, { role, outcome: error?.code ?? "OK" });
        record("transferDuration", seconds, { role });
      },
      "tensorwire:server:refuse": ({ code }) => record("refusals", 1, { code }),
    });
  }

  /** What a gauge shows now. */
  *read(name: MetricOf<"gauge">): Generator<readonly [value: number, labels: Labels]> {
    if (name === "connectionsOpen") return yield [this.#connections.size, {}];
    for (const role of ["send", "receive"] as const) {
      const transfers = [...this.#transfers].filter((transfer) => transfer.role === role);
      yield [transfers.reduce((sum, transfer) => sum + SHARES[name](transfer), 0), { role }];
    }
  }
}

/** What each transfer adds to a gauge. */
const SHARES = {
  transfersActive: () => 1,
  inFlight: ({ inFlightBytes }: ObservedTransfer) => inFlightBytes,
  queued: ({ queuedBytes }: ObservedTransfer) => queuedBytes,
};
