import type { ReadableStream, ReadableStreamDefaultReader, WritableStream } from "node:stream/web";
import { asTensorwireError, type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { withinGrace } from "../session/grace.js";

/** A pair of Web streams of bytes: either may be missing, which makes a channel without a way back. */
export interface WebStreamPair {
  /** Where the peer's bytes come from. */
  readonly readable?: ReadableStream<Uint8Array> | undefined;
  /** Where bytes for the peer go. */
  readonly writable?: WritableStream<Uint8Array> | undefined;
}

/** Bytes of one write: a stream says after each whether it has room for more. */
const WRITE_BYTES = 256 * 1024;

/**
 * A pair of Web streams as a channel: a stream of WebTransport, two `TransformStream`s, a compression in between.
 * @example
 * const [there, back] = [new TransformStream<Uint8Array, Uint8Array>(), new TransformStream<Uint8Array, Uint8Array>()];
 * const sending = streamModel("model.safetensors", webStreamsChannel({ readable: back.readable, writable: there.writable }));
 * await receiveModel(webStreamsChannel({ readable: there.readable, writable: back.writable }), { to: "copy.safetensors" }).done;
 * await sending;
 */
export function webStreamsChannel(streams: WebStreamPair): Channel {
  if (!streams.readable && !streams.writable) {
    throw new TensorwireError("INVALID_ARGUMENT", "a pair of Web streams needs a readable or a writable");
  }
  return new WebStreamsChannel(streams);
}

class WebStreamsChannel implements Channel {
  readonly kind = "webstreams";
  readonly direction: Channel["direction"];
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #writer: ReturnType<WritableStream<Uint8Array>["getWriter"]> | undefined;
  #receiver: ChannelReceiver | undefined;
  #sending: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  #ended = false;
  #closing: Promise<void> | undefined;
  #dropped = false;
  /** Fails what waits for the stream, which may never answer. */
  readonly #waiting = new Set<(error: Error) => void>();

  constructor({ readable, writable }: WebStreamPair) {
    this.#reader = readable?.getReader();
    this.#writer = writable?.getWriter();
    this.direction = readable && writable ? "both" : readable ? "receive" : "send";
    this.#writer?.closed.then(
      () => !readable && this.#end(),
      (error) => {
        this.#fail(error);
        if (!readable) this.#end();
      },
    );
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    if (this.#reader) void this.#read(this.#reader, receiver);
    else if (this.#failure) setImmediate(() => this.#end());
  }

  async #read(reader: ReadableStreamDefaultReader<Uint8Array>, receiver: ChannelReceiver): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!(value instanceof Uint8Array))
          throw new TensorwireError("PROTOCOL", "a stream of what is no bytes");
        if (!this.#ended) await receiver.bytes(value);
      }
    } catch (error) {
      this.#fail(error);
      // It may be our own: the stream itself does not know of it.
      reader.cancel(error).catch(() => {});
    }
    this.#end();
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    if (!this.#writer) throw new TensorwireError("INVALID_ARGUMENT", "this channel only receives");
    if (this.#closing || this.#ended || this.#failure) throw this.#reason();
    // In turn: there may have to be waited in the middle of one.
    const sent = this.#sending.then(() => this.#write(this.#writer!, parts));
    this.#sending = sent.catch(() => {});
    await this.#orTorn(sent);
  }

  #orTorn<T>(work: Promise<T>): Promise<T> {
    // Not Promise.race: every call would leave a reaction on a promise that lives as long as the channel.
    return new Promise<T>((resolve, reject) => {
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  async #write(
    writer: ReturnType<WritableStream<Uint8Array>["getWriter"]>,
    parts: readonly Uint8Array[],
  ): Promise<void> {
    for (const part of parts) {
      for (let at = 0; at < part.length; at += WRITE_BYTES) {
        if (this.#failure) throw this.#failure;
        // Whoever reads it may have it for long: it gets bytes of its own.
        await writer.write(part.slice(at, at + WRITE_BYTES));
      }
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

  async #finish(): Promise<void> {
    const written = this.#sending.then(() => this.#writer?.close());
    await this.#orTorn(written).catch(() => {});
    if (this.direction === "receive") await this.#reader!.cancel().catch(() => {});
  }

  async #drop(error: Error): Promise<void> {
    // Not cut off at once, where nothing is stuck in it: the peer would lose our last words.
    if (this.#waiting.size === 0)
      await withinGrace(this.#writer?.close().catch(() => {}) ?? Promise.resolve());
    this.#fail(error);
    this.#end();
    // A stream's own code may never answer.
    const over = [this.#writer?.abort(error), this.#reader?.cancel(error)];
    await withinGrace(Promise.allSettled(over));
  }

  #reason(): Error {
    return this.#failure ?? new TensorwireError("CHANNEL_CLOSED", "the stream is closed");
  }

  #fail(error: unknown): void {
    this.#failure ??= asTensorwireError(error, "CHANNEL_CLOSED", "the stream failed");
    this.#tear(this.#failure);
  }

  #tear(error: Error): void {
    for (const reject of this.#waiting) reject(error);
  }

  #end(): void {
    if (this.#ended || !this.#receiver) return;
    this.#ended = true;
    // A peer that has closed takes nothing more, though its stream may not say so.
    if (this.direction === "both") this.#tear(this.#reason());
    this.#receiver.end(this.#failure);
  }
}
