import { type Channel, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { deferred } from "../session/deferred.js";
import { EarlyBytes } from "./early-bytes.js";
import { MessageKind } from "./socket-message.js";

/** Sends one message, when it is its turn. @param fill Writes into the room what the message is to carry, and says how much. */
export type SendMessage = (
  kind: MessageKind,
  channel: number,
  fill: (room: Uint8Array) => number,
) => Promise<void>;

/** One channel among the messages of a shared WebSocket. */
export class SharedChannel implements Channel {
  // Not a WebSocket's: what its headers have shown is the other program's.
  readonly kind = "shared";
  readonly direction = "both";
  #receiver: ChannelReceiver | undefined;
  readonly #early = new EarlyBytes();
  #ended: { readonly error: Error | undefined } | undefined;
  readonly #over = deferred<never>();
  #sending: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(
    readonly number: number,
    private readonly message: SendMessage,
  ) {
    this.#over.promise.catch(() => {});
  }

  /** It has failed, was closed, or the other end has closed it. */
  get over(): boolean {
    return this.#ended !== undefined || this.#closing !== undefined;
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#early.give(receiver);
    if (this.#ended) receiver.end(this.#ended.error);
  }

  arrived(kind: MessageKind, body: Uint8Array): void {
    if (this.#ended) return;
    if (kind === MessageKind.END) return this.end(undefined);
    if (kind === MessageKind.FAILED) {
      return this.end(new TensorwireError("CHANNEL_CLOSED", "the other end has given the channel up"));
    }
    if (this.#receiver) return void this.#receiver.bytes(body);
    try {
      this.#early.hold(body);
    } catch (error) {
      void this.close(error as Error);
    }
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.over) return Promise.reject(this.#reason());
    const sent = this.#sending.then(() => this.#send(parts));
    this.#sending = sent.catch(() => {});
    return Promise.race([sent, this.#over.promise]);
  }

  async #send(parts: readonly Uint8Array[]): Promise<void> {
    let part = 0;
    let at = 0;
    const fill = (room: Uint8Array): number => {
      let filled = 0;
      while (part < parts.length && filled < room.length) {
        const piece = parts[part]!.subarray(at, at + room.length - filled);
        room.set(piece, filled);
        filled += piece.length;
        at += piece.length;
        if (at < parts[part]!.length) continue;
        part++;
        at = 0;
      }
      return filled;
    };
    while (part < parts.length) {
      // Whoever waited meanwhile has been told, and may have its bytes elsewhere by now.
      if (this.#ended) throw this.#reason();
      await this.message(MessageKind.BYTES, this.number, (room) => (this.#ended ? 0 : fill(room)));
    }
  }

  close(error?: Error): Promise<void> {
    if (!this.#closing) {
      const heard = this.#ended !== undefined;
      this.#closing = error ? this.#drop(error, heard) : this.#close(heard);
    } else if (error) this.end(error);
    return this.#closing;
  }

  async #close(heard: boolean): Promise<void> {
    await Promise.race([this.#sending, this.#over.promise.catch(() => {})]);
    if (!heard && !this.#ended) {
      const told = this.message(MessageKind.END, this.number, () => 0).catch(() => {});
      await Promise.race([told, this.#over.promise.catch(() => {})]);
    }
    this.end(undefined);
  }

  async #drop(error: Error, heard: boolean): Promise<void> {
    this.end(error);
    // In its turn, behind what the socket has in hand: nobody here waits for that.
    if (!heard) this.message(MessageKind.FAILED, this.number, () => 0).catch(() => {});
  }

  /** Nothing comes any more: the other end, or the socket, says so. */
  end(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = { error };
    this.#over.reject(this.#reason());
    this.#receiver?.end(error);
  }

  #reason(): Error {
    return (
      this.#ended?.error ?? new TensorwireError("CHANNEL_CLOSED", "the channel on this WebSocket is closed")
    );
  }
}
