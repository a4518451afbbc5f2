import type { Duplex, Readable, Writable } from "node:stream";
import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { deliverPaced } from "./paced.js";

/** A pair of streams: either may be missing, which makes a channel without a way back. */
export interface StreamPair {
  readonly readable?: Readable | undefined;
  readonly writable?: Writable | undefined;
}

/** A Node stream pair as a channel: sockets, pipes, stdin and stdout. A `Duplex` is both of its own sides. */
export function duplexChannel(streams: Duplex | StreamPair): Channel {
  const duplex = streams as Duplex;
  const pair: StreamPair =
    typeof duplex.pipe === "function" ? { readable: duplex, writable: duplex } : (streams as StreamPair);
  if (!pair.readable && !pair.writable) {
    throw new TensorwireError("INVALID_ARGUMENT", "a stream pair needs a readable or a writable");
  }
  return new DuplexChannel(pair);
}

class DuplexChannel implements Channel {
  readonly kind = "duplex";
  readonly direction: Channel["direction"];
  readonly #readable: Readable | undefined;
  readonly #writable: Writable | undefined;
  #receiver: ChannelReceiver | undefined;
  #ended = false;
  #failure: Error | undefined;
  #closing: Promise<void> | undefined;
  /** Fails the writes that are under way. */
  readonly #writing = new Set<(error: Error) => void>();

  constructor({ readable, writable }: StreamPair) {
    this.#readable = readable;
    this.#writable = writable;
    this.direction = readable && writable ? "both" : readable ? "receive" : "send";
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    const readable = this.#readable;
    const writable = this.#writable;
    writable?.on("error", (error) => this.#end(error));
    writable?.on("close", () => this.#end());
    if (!readable) return;
    if (this.direction === "receive")
      return deliverPaced(readable, {
        bytes: (portion) => receiver.bytes(portion),
        end: (error) => this.#end(error),
      });
    readable.on("data", (portion: Buffer) => this.#deliver(portion));
    readable.on("end", () => this.#end());
    readable.on("error", (error) => this.#end(error));
    readable.on("close", () => this.#end());
  }

  #deliver(portion: Buffer): void {
    if (!this.#ended) void this.#receiver!.bytes(portion);
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    const writable = this.#writable;
    if (!writable) throw new TensorwireError("INVALID_ARGUMENT", "this channel only receives");
    if (this.#failure || writable.destroyed || writable.writableEnded) {
      throw this.#failure ?? new TensorwireError("CHANNEL_CLOSED", "the stream is closed");
    }
    let fail: ((error: Error) => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        let left = parts.length;
        const written = (error?: Error | null): void => {
          if (error) reject(error);
          else if (--left === 0) resolve();
        };
        this.#writing.add((fail = reject));
        writable.cork();
        for (const part of parts) writable.write(part, written);
        writable.uncork();
      });
    } finally {
      this.#writing.delete(fail!);
    }
  }

  close(error?: Error): Promise<void> {
    this.#closing ??= error ? this.#drop(error) : this.#finish();
    return this.#closing;
  }

  async #drop(error: Error): Promise<void> {
    this.#writable?.destroy();
    this.#readable?.destroy();
    // Node never really closes the process's own streams: a write that a stalled reader holds up would last for ever.
    if (isStandard(this.#writable)) for (const fail of this.#writing) fail(error);
  }

  async #finish(): Promise<void> {
    const writable = this.#writable;
    if (writable && !writable.destroyed && !isStandard(writable)) {
      await new Promise<void>((resolve) => {
        writable.once("close", resolve);
        writable.end(() => resolve());
      });
    }
    // What is still to come, the peer's own end, is read past: a socket that is not read never closes.
    this.#readable?.resume();
    if (this.#readable && isStandard(this.#readable)) this.#readable.destroy();
  }

  #end(error?: Error): void {
    if (error) this.#failure ??= error;
    if (this.#ended) return;
    this.#ended = true;
    this.#receiver!.end(error);
  }
}

// The process's own streams are nobody's to end: others may still write to them.
function isStandard(stream: unknown): boolean {
  return stream === process.stdout || stream === process.stderr || stream === process.stdin;
}
