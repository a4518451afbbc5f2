import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";

/**
 * Two channels joined in memory: what one sends, the other delivers, in portions of `portionBytes` (to see that bounds
 * mean nothing). For tests, and for transfers within one process.
 * @example
 * const [here, there] = memoryChannelPair();
 * const sending = streamModel("model.safetensors", here);
 * await receiveModel(there, { to: "copy.safetensors" }).done;
 * await sending;
 */
export function memoryChannelPair(portionBytes = Number.POSITIVE_INFINITY): [Channel, Channel] {
  const a = new MemoryChannel(portionBytes);
  const b = new MemoryChannel(portionBytes);
  a.other = b;
  b.other = a;
  return [a, b];
}

class MemoryChannel implements Channel {
  readonly kind = "memory";
  readonly direction = "both";
  readonly peer = { address: "memory", private: true };
  other!: MemoryChannel;
  #receiver: ChannelReceiver | undefined;
  #sending: Promise<void> = Promise.resolve();
  /** No more is taken for sending. */
  #closing = false;
  /** No more is delivered, either way. */
  #closed = false;
  #ended: { readonly error: Error | undefined } | undefined;
  /** Resolves when it is opened, or has ended before that. */
  readonly #ready: Promise<void>;
  #settle!: () => void;

  constructor(private readonly portionBytes: number) {
    this.#ready = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#settle();
    if (this.#ended) this.#tell(receiver, this.#ended.error);
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#closing) throw closed();
    const sent = this.#sending.then(() => this.#deliver(parts));
    this.#sending = sent.catch(() => {});
    await sent;
  }

  async #deliver(parts: readonly Uint8Array[]): Promise<void> {
    // A turn of the event loop for each send, as a socket would take: the two ends do not run inside one another.
    await new Promise((resolve) => setImmediate(resolve));
    await this.other.#ready;
    this.#check();
    for (const part of parts) {
      for (let at = 0; at < part.length; ) {
        const end = Math.min(part.length, at + this.portionBytes);
        void this.other.#receiver!.bytes(part.subarray(at, end));
        at = end;
        // The receiver may have closed either end meanwhile.
        if (at < part.length) this.#check();
      }
    }
  }

  #check(): void {
    if (this.#closed || this.other.#closed) throw closed();
  }

  async close(error?: Error): Promise<void> {
    this.#closing = true;
    if (!error) await this.#sending;
    if (this.#closed) return;
    this.#closed = true;
    this.#end(error);
    this.other.#end(error && new TensorwireError("CHANNEL_CLOSED", "the other dropped the memory channel"));
  }

  #end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = { error };
    this.#settle();
    if (this.#receiver) this.#tell(this.#receiver, error);
  }

  #tell(receiver: ChannelReceiver, error: Error | undefined): void {
    setImmediate(() => receiver.end(error));
  }
}

const closed = (): TensorwireError => new TensorwireError("CHANNEL_CLOSED", "the memory channel is closed");
