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
  #sending: Promise<unknown>;
  #closing: Promise<void> | undefined;
  /** Our word for the end, on its way or there. */
  #word: Promise<void> | undefined;
  readonly #silent = deferred<void>();

  /** @param before Resolves when the channel before this one is `silent`: the other end reads past what it does not expect yet. */
  constructor(
    readonly number: number,
    private readonly message: SendMessage,
    private readonly before: Promise<void>,
  ) {
    this.#sending = before;
  }

  /** Resolves when nothing is sent any more, and the other end knows of that. */
  get silent(): Promise<void> {
    return this.#silent.promise;
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
    if (error) this.#drop(error);
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const over = this.#over.promise.catch(() => {});
    await Promise.race([this.#sending, over]);
    if (!this.#ended) await Promise.race([this.#say(MessageKind.END), over]);
    this.end(undefined);
  }

  #drop(error: Error): void {
    if (this.#ended) return;
    // In its turn, behind what the socket has in hand: nobody here waits for that.
    void this.#say(MessageKind.FAILED);
    this.end(error);
  }

  #say(kind: MessageKind): Promise<void> {
    this.#word ??= this.before
      .then(() => this.message(kind, this.number, () => 0))
      .catch(() => {})
      .then(() => this.#silent.resolve());
    return this.#word;
  }

  /** Nothing comes any more: the other end, or the socket, says so. */
  end(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = { error };
    if (!this.#word) void this.before.then(() => this.#silent.resolve());
    this.#over.reject(this.#reason());
    this.#receiver?.end(error);
  }

  #reason(): Error {
    return (
      this.#ended?.error ?? new TensorwireError("CHANNEL_CLOSED", "the channel on this WebSocket is closed")
    );
  }
}
