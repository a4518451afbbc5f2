import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";

/**
 * Two channels joined in memory: what one sends, the other delivers, in portions of `portionBytes` (to see that bounds
 * mean nothing). For tests, and for transfers within one process.
 */
export function memoryChannelPair(portionBytes = Number.POSITIVE_INFINITY): [Channel, Channel] {
  const a = new MemoryChannel(portionBytes);
  const b = new MemoryChannel(portionBytes);
  a.peer = b;
  b.peer = a;
  return [a, b];
}

class MemoryChannel implements Channel {
  readonly kind = "memory";
  readonly direction = "both";
  peer!: MemoryChannel;
  #receiver: ChannelReceiver | undefined;
  #opened!: () => void;
  readonly #open = new Promise<void>((resolve) => {
    this.#opened = resolve;
  });
  #sending: Promise<void> = Promise.resolve();
  #ended = false;
  #closed = false;

  constructor(private readonly portionBytes: number) {}

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#opened();
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    const sent = this.#sending.then(() => this.#deliver(parts));
    this.#sending = sent.catch(() => {});
    return sent;
  }

  async #deliver(parts: readonly Uint8Array[]): Promise<void> {
    // A turn of the event loop for each send, as a socket would take: the two ends do not run inside one another.
    await new Promise((resolve) => setImmediate(resolve));
    await this.peer.#open;
    for (const part of parts) {
      for (let at = 0; at < part.length; ) {
        if (this.#closed || this.peer.#closed)
          throw new TensorwireError("CHANNEL_CLOSED", "the memory channel is closed");
        const end = Math.min(part.length, at + this.portionBytes);
        this.peer.#receiver!.bytes(part.subarray(at, end));
        at = end;
      }
    }
  }

  async close(error?: Error): Promise<void> {
    if (!error) await this.#sending;
    if (this.#closed) return;
    this.#closed = true;
    this.#end(error);
    this.peer.#end(error && new TensorwireError("CHANNEL_CLOSED", "the peer dropped the memory channel"));
  }

  #end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    void this.#open.then(() => setImmediate(() => this.#receiver!.end(error)));
  }
}
