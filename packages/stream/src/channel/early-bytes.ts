import { type ChannelReceiver, TensorwireError } from "@tensorwire/core";

/** Bytes that may come before anybody listens. */
export const MAX_EARLY_BYTES = 256 * 1024;

/** What a portion costs beside its bytes: empty ones make a queue too. */
const PORTION_COST = 256;

/** What came before a channel was opened: a peer's HELLO may be as early as the connection. */
export class EarlyBytes {
  readonly #portions: Uint8Array[] = [];
  #cost = 0;

  /** @throws TensorwireError `PROTOCOL` for too many: nobody has granted credit yet, so this is no transfer. */
  hold(portion: Uint8Array): void {
    this.#portions.push(portion.slice());
    this.#cost += portion.length + PORTION_COST;
    if (this.#cost <= MAX_EARLY_BYTES) return;
    this.#portions.length = 0;
    throw new TensorwireError("PROTOCOL", "too many bytes before the channel was opened");
  }

  /** Hands over what there is. */
  give(receiver: ChannelReceiver): void {
    for (const portion of this.#portions.splice(0)) void receiver.bytes(portion);
  }
}
