import { type ChannelReceiver, TensorwireError } from "@tensorwire/core";

/** Bytes that may come before anybody listens. */
export const MAX_EARLY_BYTES = 256 * 1024;

/** Small portions share a block of this size: a peer whose bytes come one by one is no heavier than another. */
const BLOCK_BYTES = 2 * 1024;

/** What came before a channel was opened: a peer's HELLO may be as early as the connection. */
export class EarlyBytes {
  readonly #blocks: Uint8Array[] = [];
  /** Bytes of the last block that are taken. */
  #filled = 0;
  #cost = 0;

  constructor(private readonly maxBytes = MAX_EARLY_BYTES) {}

  /** @throws TensorwireError `PROTOCOL` for too many: nobody has granted credit yet, so this is no transfer. */
  hold(portion: Uint8Array): void {
    // An empty one counts too, or there would be no end of them.
    this.#cost += Math.max(1, portion.length);
    if (this.#cost > this.maxBytes) {
      this.#blocks.length = 0;
      throw new TensorwireError("PROTOCOL", "too many bytes before the channel was opened");
    }
    let block = this.#blocks.at(-1);
    if (!block || block.length - this.#filled < portion.length) {
      if (block) this.#blocks[this.#blocks.length - 1] = block.subarray(0, this.#filled);
      block = new Uint8Array(Math.max(BLOCK_BYTES, portion.length));
      this.#blocks.push(block);
      this.#filled = 0;
    }
    block.set(portion, this.#filled);
    this.#filled += portion.length;
  }

  /** Hands over what there is. */
  give(receiver: ChannelReceiver): void {
    const blocks = this.#blocks.splice(0);
    const last = blocks.pop();
    for (const block of blocks) void receiver.bytes(block);
    if (this.#filled > 0) void receiver.bytes(last!.subarray(0, this.#filled));
    this.#filled = 0;
  }
}
