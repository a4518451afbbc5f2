import type { Channel, TensorwireError } from "@tensorwire/core";
import { type ObservedConnection, publish } from "./events.js";

let connections = 0;

/** Tells whoever listens of a connection: that it opens, and once that it closes. */
export class ConnectionTrace implements ObservedConnection {
  readonly id = ++connections;
  readonly channel: string;
  readonly direction: Channel["direction"];
  readonly peer: string | undefined;
  readonly #openedAt = performance.now();
  #closed = false;

  constructor({ kind, direction, peer }: Channel) {
    this.channel = kind;
    this.direction = direction;
    this.peer = peer?.address;
    publish("tensorwire:connection:open", () => ({ connection: this }));
  }

  /** The first call counts. @param error Why; `undefined` where this side was done with it. */
  close(error?: TensorwireError): void {
    if (this.#closed) return;
    this.#closed = true;
    const seconds = (performance.now() - this.#openedAt) / 1000;
    publish("tensorwire:connection:close", () => ({ connection: this, error, seconds }));
  }
}
