import { type Channel, type ChannelPeer, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { EarlyBytes } from "./early-bytes.js";

export interface WaitingOptions {
  /** Looks at bytes as they come, before the channel is opened. */
  readonly peek?: ((portion: Uint8Array) => void) | undefined;
  /** Bytes that may come before that. */
  readonly maxBytes?: number | undefined;
  /** How long it may wait without a word of the peer's. Default 0: for ever. */
  readonly idleTimeoutMs?: number | undefined;
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
  readonly #silence: NodeJS.Timeout | undefined;
  #ended: { readonly error: Error | undefined } | undefined;

  /** @param onLeft Called when the peer has left, said nothing, or sent too much, before the channel was opened. */
  constructor(
    private readonly inner: Channel,
    public onLeft: (error: Error | undefined) => void,
    private readonly options: WaitingOptions = {},
  ) {
    this.kind = inner.kind;
    this.direction = inner.direction;
    this.peer = inner.peer;
    this.#early = new EarlyBytes(options.maxBytes);
    const { idleTimeoutMs = 0 } = options;
    if (idleTimeoutMs > 0) this.#silence = setTimeout(() => this.#lose(), idleTimeoutMs).unref();
    inner.open(this);
  }

  open(receiver: ChannelReceiver): void {
    clearTimeout(this.#silence);
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
    clearTimeout(this.#silence);
    try {
      this.#early.hold(portion);
    } catch (error) {
      this.#drop(error as Error);
      return;
    }
    this.options.peek?.(portion);
  }

  #lose(): void {
    this.#drop(new TensorwireError("IDLE_TIMEOUT", "the peer dialled, and said nothing"));
  }

  #drop(error: Error): void {
    this.end(error);
    void this.inner.close(error);
  }

  end(error?: Error): void {
    if (this.#ended) return;
    clearTimeout(this.#silence);
    this.#ended = { error };
    if (this.#receiver) this.#receiver.end(error);
    else this.onLeft(error);
  }
}
