import { TensorwireError } from "@tensorwire/core";
import type { ServerLimits } from "./server-limits.js";

/** The place of one transfer. */
export interface Seat {
  /**
   * The peer is sending so much.
   * @throws TensorwireError `SERVER_BUSY` where that is too much beside what it sends already, `LIMIT_EXCEEDED` where it
   * always is.
   */
  load(bytes: number): void;
  /** The transfer is over. */
  leave(): void;
}

interface Guest {
  transfers: number;
  bytes: number;
}

/** How many transfers there are, of whom, and how much they bring. */
export class Seats {
  readonly #guests = new Map<string, Guest>();
  #taken = 0;

  constructor(private readonly limits: ServerLimits) {}

  get taken(): number {
    return this.#taken;
  }

  /** @throws TensorwireError `SERVER_BUSY`. */
  take(peer: string): Seat {
    const { maxTransfers, maxPeerTransfers } = this.limits;
    if (this.#taken >= maxTransfers) {
      throw busy(`${maxTransfers} transfers are under way, which is as many as the server takes`);
    }
    const guest = this.#guests.get(peer) ?? { transfers: 0, bytes: 0 };
    if (guest.transfers >= maxPeerTransfers) {
      throw busy(`${maxPeerTransfers} transfers of this peer are under way, which is as many as it may have`);
    }
    this.#guests.set(peer, guest);
    this.#taken++;
    guest.transfers++;
    return this.#seat(peer, guest);
  }

  #seat(peer: string, guest: Guest): Seat {
    let loaded = 0;
    let left = false;
    return {
      load: (bytes) => {
        const { maxPeerBytes } = this.limits;
        if (bytes > maxPeerBytes) {
          const message = `the model is ${bytes} bytes, over the server's limit maxPeerBytes = ${maxPeerBytes}`;
          throw new TensorwireError("LIMIT_EXCEEDED", message);
        }
        if (guest.bytes + bytes > maxPeerBytes) {
          throw busy(
            `this peer is sending ${guest.bytes} bytes already, and ${maxPeerBytes} at most at once`,
          );
        }
        loaded += bytes;
        guest.bytes += bytes;
      },
      leave: () => {
        if (left) return;
        left = true;
        this.#taken--;
        guest.bytes -= loaded;
        if (--guest.transfers === 0) this.#guests.delete(peer);
      },
    };
  }
}

const busy = (why: string): TensorwireError => new TensorwireError("SERVER_BUSY", `${why}: try again later`);
