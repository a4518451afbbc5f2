import { WriteStream } from "node:fs";
import { Socket } from "node:net";
import type { Duplex, Readable, Writable } from "node:stream";
import { type Channel, type ChannelPeer, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { withinGrace } from "../session/grace.js";
import { deliverPaced } from "./paced.js";
import { socketPeer } from "./peer.js";
import { discardPortion } from "./read-portion.js";

/** A pair of streams: either may be missing, which makes a channel without a way back. */
export interface StreamPair {
  /** Where the peer's bytes come from. */
  readonly readable?: Readable | undefined;
  /** Where bytes for the peer go. */
  readonly writable?: Writable | undefined;
}

/**
 * A Node stream pair as a channel: sockets, pipes, stdin and stdout. A `Duplex` is both of its own sides.
 * @param kind What the channel calls itself.
 * @param peer The other end, where it is known. Of a socket it is found out.
 * @example
 * import { connect } from "node:net";
 *
 * const listener = await listen({ url: "tcp://127.0.0.1:9000" });
 * const received = receiveModel(listener, { to: "copy.safetensors" }).done;
 * await streamModel("model.safetensors", duplexChannel(connect(Number(new URL(listener.url).port), "127.0.0.1")));
 * await received;
 */
export function duplexChannel(streams: Duplex | StreamPair, kind = "duplex", peer?: ChannelPeer): Channel {
  return streamChannel(streams, kind, peer, false);
}

/** A socket that was opened here, and that nobody else has: what it reads is given back at once. */
export function ownSocketChannel(socket: Socket, kind: string, peer: ChannelPeer): Channel {
  return streamChannel(socket, kind, peer, true);
}

function streamChannel(
  streams: Duplex | StreamPair,
  kind: string,
  peer: ChannelPeer | undefined,
  own: boolean,
): Channel {
  const duplex = streams as Duplex;
  const pair: StreamPair =
    typeof duplex.pipe === "function" ? { readable: duplex, writable: duplex } : (streams as StreamPair);
  if (!pair.readable && !pair.writable) {
    throw new TensorwireError("INVALID_ARGUMENT", "a stream pair needs a readable or a writable");
  }
  const known = peer ?? (duplex instanceof Socket ? socketPeer(duplex) : undefined);
  return new DuplexChannel(pair, kind, known, own);
}

class DuplexChannel implements Channel {
  readonly direction: Channel["direction"];
  readonly #readable: Readable | undefined;
  readonly #writable: Writable | undefined;
  readonly #copies: boolean;
  #receiver: ChannelReceiver | undefined;
  #ended = false;
  #failure: Error | undefined;
  #closing: Promise<void> | undefined;
  #dropped = false;
  /** Fails the writes that are under way. */
  readonly #writing = new Set<(error: Error) => void>();

  constructor(
    { readable, writable }: StreamPair,
    readonly kind: string,
    readonly peer: ChannelPeer | undefined,
    private readonly own: boolean,
  ) {
    this.#readable = readable;
    this.#writable = writable;
    this.#copies = writable !== undefined && !writesToSystem(writable);
    this.direction = readable && writable ? "both" : readable ? "receive" : "send";
    this.#failure = readable?.errored ?? writable?.errored ?? undefined;
    // From the beginning: an error that nobody listens for ends the process.
    writable?.on("error", (error) => {
      this.#fail(error);
      if (!readable) this.#end();
    });
    readable?.on("error", (error) => {
      this.#fail(error);
      this.#end();
    });
    writable?.on("close", () => this.#failWrites());
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    const stream = (this.#readable ?? this.#writable)!;
    // Of two streams only the one that is read says when the end has come: what a process wrote last is still there to
    // be read when its standard input has closed.
    if (stream.destroyed || this.#readable?.readableEnded) return void setImmediate(() => this.#end());
    if (this.direction === "receive")
      return deliverPaced(this.#readable!, {
        bytes: (portion) => receiver.bytes(portion),
        end: (error) => this.#end(error),
      });
    this.#readable?.on("data", (portion: Buffer) => this.#deliver(portion));
    this.#readable?.on("end", () => this.#end());
    stream.on("close", () => this.#end());
  }

  #deliver(portion: Buffer): void {
    if (this.#ended) return;
    void this.#receiver!.bytes(portion);
    if (this.own) discardPortion(this.#readable!, portion);
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    const writable = this.#writable;
    if (!writable) throw new TensorwireError("INVALID_ARGUMENT", "this channel only receives");
    const closed = this.#closing || this.#ended || writable.destroyed || writable.writableEnded;
    if (closed || this.#failure) throw this.#reason();
    let fail: ((error: Error) => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        let left = parts.length + 1;
        const written = (error?: Error | null): void => {
          if (error) reject(error);
          else if (--left === 0) resolve();
        };
        this.#writing.add((fail = reject));
        writable.cork();
        for (const part of parts) writable.write(this.#copies ? Buffer.from(part) : part, written);
        writable.uncork();
        written();
      });
    } finally {
      this.#writing.delete(fail!);
    }
  }

  close(error?: Error): Promise<void> {
    if (error && !this.#dropped) {
      this.#dropped = true;
      this.#closing = this.#drop(error);
    }
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #drop(error: Error): Promise<void> {
    this.#end(error);
    // Not cut off at once, where nothing is stuck in it: while the peer still sends, that would be a reset, and the peer's
    // next write would fail before it has read our last words.
    if (this.direction === "both" && this.#writing.size === 0) await withinGrace(this.#shut());
    this.#writable?.destroy();
    this.#readable?.destroy();
    // Not every stream says what became of a write when it is destroyed, and Node never really closes the process's own:
    // a write that a stalled reader holds up would last for ever.
    this.#failWrites(error);
  }

  /** Ends what is written, and reads past what is still to come. */
  async #shut(): Promise<void> {
    const readable = this.#readable!;
    const writable = this.#writable!;
    if (isStandard(readable) || isStandard(writable)) return;
    const open = [readable, writable].filter((stream) => !stream.destroyed);
    const closed = open.map((stream) => new Promise<void>((resolve) => stream.once("close", resolve)));
    writable.end();
    readable.resume();
    await Promise.all(closed);
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
    const readable = this.#readable;
    readable?.resume();
    if (!readable || !isStandard(readable)) return;
    // An artifact goes on behind END: who pipes one in should not find that nobody reads any more.
    if (!readable.readableEnded && !readable.destroyed) await withinGrace(endOf(readable));
    readable.destroy();
  }

  #reason(): Error {
    return this.#failure ?? new TensorwireError("CHANNEL_CLOSED", "the stream is closed");
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#failWrites();
  }

  #failWrites(error = this.#reason()): void {
    for (const fail of this.#writing) fail(error);
  }

  #end(error = this.#failure): void {
    if (this.#ended || !this.#receiver) return;
    this.#ended = true;
    this.#receiver.end(error);
  }
}

function endOf(readable: Readable): Promise<void> {
  return new Promise((resolve) => {
    for (const event of ["end", "close", "error"]) readable.once(event, () => resolve());
  });
}

// Sockets, pipes and files have taken the bytes when they say so. Other streams hand on the very buffer, to whoever reads
// it later: they get one of their own.
function writesToSystem(stream: Writable): boolean {
  return stream instanceof Socket || stream instanceof WriteStream || isStandard(stream);
}

// The process's own streams are nobody's to end: others may still write to them. Told by their descriptors: Node makes each
// of them, and opens what it reads, when it is first asked for.
function isStandard(stream: object): boolean {
  const { fd } = stream as { readonly fd?: unknown };
  return fd === 0 || fd === 1 || fd === 2;
}
