import type { Channel, ChannelPeer, ChannelReceiver } from "@tensorwire/core";
import { EarlyBytes } from "./early-bytes.js";

export interface WaitingOptions {
  /** Looks at bytes as they come, before the channel is opened. */
  readonly peek?: ((portion: Uint8Array) => void) | undefined;
  /** Bytes that may come before that. */
  readonly maxBytes?: number | undefined;
}

/**
 * A channel that was accepted, and waits for somebody to open it. It is read from the beginning: of a peer that leaves
 * meanwhile nobody would hear otherwise.
 */
export class WaitingChannel implements Channel, ChannelReceiver {
  readonly kind: string;
  readonly direction: Channel["direction"];
  readonly peer: ChannelPeer | undefined;
  readonly #early: EarlyBytes;
  #receiver: ChannelReceiver | undefined;
  #ended: { readonly error: Error | undefined } | undefined;

  /** @param onLeft Called when the peer has left, or sent too much, before the channel was opened. */
  constructor(
    private readonly inner: Channel,
    public onLeft: (error: Error | undefined) => void,
    private readonly options: WaitingOptions = {},
  ) {
    this.kind = inner.kind;
    this.direction = inner.direction;
    this.peer = inner.peer;
    this.#early = new EarlyBytes(options.maxBytes);
    inner.open(this);
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#early.give(receiver);
    if (this.#ended) receiver.end(this.#ended.error);
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    return this.inner.send(parts);
  }

  close(error?: Error): Promise<void> {
    return this.inner.close(error);
  }

  bytes(portion: Uint8Array): void | Promise<void> {
    if (this.#ended) return;
    if (this.#receiver) return this.#receiver.bytes(portion);
    try {
      this.#early.hold(portion);
    } catch (error) {
      this.end(error as Error);
      void this.inner.close(error as Error);
      return;
    }
    this.options.peek?.(portion);
  }

  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = { error };
    if (this.#receiver) this.#receiver.end(error);
    else this.onLeft(error);
  }
}
