import { TensorwireError } from "@tensorwire/core";
import { Pulse, period } from "./pulse.js";
import { Standstill } from "./standstill.js";
import type { TransferLife } from "./transfer.js";

/** What a watch sees of one end of a transfer. */
export interface WatchedEnd {
  /** It is the peer that this end waits for: it has done its own part. */
  readonly awaitsPeer: boolean;
  /** A count that grows with every chunk, credit and acknowledgement. */
  readonly moves: number;
}

/** Tells a transfer whose peer lives, and does nothing for it, from one that this side holds up itself. */
export class StallWatch {
  readonly #standstill = new Standstill();
  readonly #pulse = new Pulse((elapsed) => this.#look(elapsed));

  /** @param stallTimeoutMs 0: a peer may take all the time that there is. */
  constructor(
    private readonly end: WatchedEnd,
    private readonly stallTimeoutMs: number,
    private readonly life: TransferLife,
  ) {
    if (stallTimeoutMs > 0) this.#pulse.beat(period(stallTimeoutMs));
  }

  stop(): void {
    this.#pulse.stop();
  }

  #look(elapsed: number): void {
    const stalled = this.#standstill.look(this.end.moves, elapsed);
    if (!this.end.awaitsPeer) return this.#standstill.forget();
    if (stalled < this.stallTimeoutMs) return;
    this.stop();
    this.life.fail(
      new TensorwireError(
        "STALL_TIMEOUT",
        `the peer lives, but no chunk, credit or acknowledgement came for ${this.stallTimeoutMs} ms: look at the peer, or raise stallTimeoutMs where its pauses are meant`,
      ),
    );
  }
}
