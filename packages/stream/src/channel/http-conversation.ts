import { type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { deferred } from "../session/deferred.js";
import { withinGrace } from "../session/grace.js";
import type { EndWord } from "./http-exchange.js";
import type { RetainedBytes } from "./retained-bytes.js";

/**
 * What both ends of an HTTP channel have in common, whoever of them makes the requests: what is sent lies here until the other
 * end has it, and how each of the two directions ends.
 */
export class HttpConversation {
  #receiver: ChannelReceiver | undefined;
  /** What the receiver was told, or is to be, of the end of what comes. */
  #told: { readonly error: Error | undefined } | undefined;
  /** No more is taken for sending. */
  #closing: TensorwireError | undefined;
  #endWord: EndWord = "complete";
  #heardAll = false;
  #over = false;
  readonly #left = deferred<void>();
  #closed: Promise<void> | undefined;
  #dropped: Promise<void> | undefined;

  /**
   * @param out What is sent.
   * @param end Ends the requests of a channel that was dropped, once its last words are gone, or are given up.
   */
  constructor(
    private readonly out: RetainedBytes,
    private readonly end: () => void | Promise<void>,
  ) {}

  /** What the last of this end's requests, or answers, says. */
  get endWord(): EndWord {
    return this.#endWord;
  }

  /** The other end has said that no more comes. */
  get heardAll(): boolean {
    return this.#heardAll;
  }

  /** Nothing happens any more. */
  get over(): boolean {
    return this.#over;
  }

  /** @returns whether anything may come. */
  open(receiver: ChannelReceiver): boolean {
    this.#receiver = receiver;
    if (this.#told) receiver.end(this.#told.error);
    return !this.#told;
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#closing) return Promise.reject(this.#closing);
    return this.out.write(parts);
  }

  close(error?: Error): Promise<void> {
    if (error) this.#dropped ??= this.#drop(error);
    this.#closed ??= this.#finish();
    return this.#dropped ?? this.#closed;
  }

  /** Resolves when the other end has everything. */
  #finish(): Promise<void> {
    this.#closing ??= closed();
    this.out.finish();
    return this.#left.promise;
  }

  async #drop(error: Error): Promise<void> {
    if (this.#over) return;
    const stuck = this.out.full;
    this.#endWord = "dropped";
    this.refuse();
    this.tell(error);
    // Where nothing is stuck, last words may be on their way.
    if (!stuck) await withinGrace(this.#left.promise);
    await this.end();
  }

  deliver(portion: Uint8Array): void {
    if (!this.#told) void this.#receiver!.bytes(portion);
  }

  /** No more comes. A peer that has closed takes no more either: what was accepted before still goes. */
  hear(end: EndWord): void {
    if (this.#heardAll || this.#over) return;
    this.#heardAll = true;
    this.tell(end === "dropped" ? dropped() : undefined);
    this.refuse();
  }

  tell(error?: Error): void {
    if (this.#told) return;
    this.#told = { error };
    this.#receiver?.end(error);
  }

  /** No more is taken for sending. */
  refuse(error = this.#closing ?? closed()): void {
    this.#closing = error;
    this.out.refuse(error);
  }

  /** The other end has everything. */
  left(): void {
    this.#left.resolve();
  }

  /** Nothing happens any more. */
  stop(): void {
    this.#over = true;
    this.refuse();
    this.left();
  }
}

export const dropped = (): TensorwireError =>
  new TensorwireError("CHANNEL_CLOSED", "the peer dropped the HTTP channel");

const closed = (): TensorwireError => new TensorwireError("CHANNEL_CLOSED", "the HTTP channel is closed");
