import { type Channel, type ChannelPeer, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { ByteRate } from "./byte-rate.js";

/**
 * A channel that leaves room on its line for others: at most `maxBytesPerSecond` each way. What is sent waits in its call,
 * and nothing is queued; what comes is kept to the pace by the credit that is given back, or by the channel's own pause
 * where it has no way back.
 * @example
 * const channel = throttledChannel(await dialWebSocket("ws://host:9000/models/slow"), 50e6);
 * await streamModel("model.safetensors", channel);
 */
export function throttledChannel(channel: Channel, maxBytesPerSecond: number): Channel {
  checkRate(maxBytesPerSecond);
  return new ThrottledChannel(channel, maxBytesPerSecond);
}

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkRate(maxBytesPerSecond: number | undefined): void {
  if (
    maxBytesPerSecond === undefined ||
    (maxBytesPerSecond >= 1 && maxBytesPerSecond < Number.POSITIVE_INFINITY)
  )
    return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `maxBytesPerSecond must be a number of at least 1, not ${maxBytesPerSecond}`,
  );
}

class ThrottledChannel implements Channel, ChannelReceiver {
  readonly kind: string;
  readonly peer: ChannelPeer | undefined;
  readonly direction: Channel["direction"];
  readonly #out: ByteRate;
  readonly #in: ByteRate;
  #receiver: ChannelReceiver | undefined;
  #sending: Promise<void> = Promise.resolve();
  /** Calls of `send` that are not over. */
  #calls = 0;
  #hurried = false;
  /** Why nothing waits any more. */
  #over: Error | undefined;
  #closing = false;
  readonly #sleepers = new Set<() => void>();

  constructor(
    private readonly inner: Channel,
    bytesPerSecond: number,
  ) {
    this.kind = inner.kind;
    this.peer = inner.peer;
    this.direction = inner.direction;
    this.#out = new ByteRate(bytesPerSecond);
    this.#in = new ByteRate(bytesPerSecond);
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.inner.open(this);
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#closing || this.#over) throw this.#reason();
    // In turn: the parts of one call stay together, though they wait in between.
    const sent = this.#sending.then(() => this.#write(parts));
    this.#sending = sent.catch(() => {});
    this.#calls++;
    try {
      await sent;
    } finally {
      if (--this.#calls === 0) this.#hurried = false;
    }
  }

  async #write(parts: readonly Uint8Array[]): Promise<void> {
    const portions = [...cut(parts, this.#out.portionBytes)];
    for (const portion of portions) {
      while (!this.#hurried && !this.#over && this.#out.delay > 0) await this.#sleep(this.#out.delay);
      if (this.#over) throw this.#over;
      this.#out.spend(bytesOf(portion));
      await this.inner.send(portion);
    }
    // The other channel says whether it takes even that.
    if (portions.length === 0) await this.inner.send([]);
  }

  welcome(): Promise<void> | undefined {
    return this.#in.delay > 0 && !this.#over ? this.#paid() : undefined;
  }

  async #paid(): Promise<void> {
    while (!this.#over && this.#in.delay > 0) await this.#sleep(this.#in.delay);
  }

  hurry(): void {
    // What comes later has its pace again.
    this.#hurried = this.#calls > 0;
    this.#wake();
  }

  async close(error?: Error): Promise<void> {
    this.#closing = true;
    if (error) this.#stop(error);
    else await this.#sending;
    await this.inner.close(error);
    this.#stop();
  }

  bytes(portion: Uint8Array): void | Promise<void> {
    this.#in.spend(portion.length);
    const taken = this.#receiver!.bytes(portion);
    const paid = this.direction === "receive" ? this.welcome() : undefined;
    return paid ? Promise.all([taken, paid]).then(() => {}) : taken;
  }

  end(error?: Error): void {
    this.#stop(error);
    this.#receiver!.end(error);
  }

  #stop(error?: Error): void {
    this.#over ??= error ?? this.#reason();
    this.#wake();
  }

  #reason(): Error {
    return this.#over ?? new TensorwireError("CHANNEL_CLOSED", `the ${this.kind} channel is closed`);
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      // Node's timers go to 25 days.
      const timer = setTimeout(wake, Math.min(milliseconds, 2 ** 31 - 1));
      this.#sleepers.add(wake);
    });
  }

  #wake(): void {
    for (const wake of [...this.#sleepers]) wake();
  }
}

/** The parts in portions of at most so many bytes: large ones cut, small ones together. */
function* cut(parts: readonly Uint8Array[], most: number): Generator<Uint8Array[]> {
  let portion: Uint8Array[] = [];
  let room = most;
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const piece = part.subarray(at, at + room);
      portion.push(piece);
      at += piece.length;
      room -= piece.length;
      if (room > 0) continue;
      yield portion;
      portion = [];
      room = most;
    }
  }
  if (portion.length > 0) yield portion;
}

const bytesOf = (parts: readonly Uint8Array[]): number =>
  parts.reduce((bytes, { length }) => bytes + length, 0);
