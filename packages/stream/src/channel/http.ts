import { type Channel, type ChannelPeer, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { withinGrace } from "../session/grace.js";
import { dropped, HttpConversation } from "./http-conversation.js";
import { countOf, END, type EndWord, endOf, OFFSET, POLL_MS, RECEIVED } from "./http-exchange.js";
import { type Getting, HttpGets } from "./http-gets.js";
import type { Asking, HttpAnswer, HttpLine } from "./http-line.js";
import { Attempts, StatusError } from "./http-attempts.js";
import { BodySize } from "./body-size.js";
import { RetainedBytes } from "./retained-bytes.js";

/** PUTs under way at once: the second is on its way while the first is answered. */
const PUTS_UNDER_WAY = 2;

/**
 * The end of an HTTP channel that makes the requests: what is sent goes in PUTs, each with its place, and what comes is
 * asked for by a GET that the server answers when it has something. Whatever gets lost is repeated from the place that the
 * other end has got to.
 */
export class HttpChannel implements Channel {
  readonly kind = "http";
  readonly direction = "both";
  readonly #putSize = new BodySize();
  readonly #out = new RetainedBytes(
    () => this.#putSize.kept,
    () => this.#pump(),
  );
  readonly #conversation = new HttpConversation(this.#out, () => this.#end(true));
  readonly #putAttempts = new Attempts();
  /** Bytes that have come. */
  #taken = 0;
  /** Place of the first byte that no PUT has under way. */
  #next = 0;
  #putting = 0;
  #endPut = false;
  #recovering = false;
  /** What the server had when a PUT got lost last. */
  #recoveredAt = -1;
  /** Ends the PUTs that are under way. */
  #puts = new AbortController();
  /** Ends everything. */
  readonly #stop = new AbortController();
  #sentAll = false;

  constructor(
    private readonly line: HttpLine,
    /** The transfer URL. */
    private readonly url: URL,
    readonly peer: ChannelPeer,
  ) {}

  open(receiver: ChannelReceiver): void {
    if (!this.#conversation.open(receiver)) return;
    void new HttpGets(this.#getting(), this.#stop.signal).run();
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    return this.#conversation.send(parts);
  }

  close(error?: Error): Promise<void> {
    return this.#conversation.close(error);
  }

  // --- What is sent

  #pump(): void {
    if (this.#conversation.over || this.#recovering) return;
    const out = this.#out;
    // The server may have taken, of a PUT that was given up, more than it said then.
    this.#next = Math.max(this.#next, out.tail);
    while (this.#putting < PUTS_UNDER_WAY) {
      const waiting = out.head - this.#next;
      const ending = out.finished && !this.#endPut;
      if (waiting === 0 && !ending) return;
      // While one is under way little waits for more.
      if (this.#putting > 0 && waiting < this.#putSize.bytes / 2) return;
      const [body = NOTHING] = out.read(this.#next, this.#putSize.bytes);
      const offset = this.#next;
      this.#next += body.length;
      this.#endPut = ending && this.#next === out.head;
      this.#putting++;
      void this.#put(offset, body, this.#endPut, this.#puts.signal);
    }
  }

  async #put(offset: number, body: Uint8Array, last: boolean, signal: AbortSignal): Promise<void> {
    const start = performance.now();
    try {
      const headers = {
        "content-type": "application/octet-stream",
        [OFFSET]: String(offset),
        [RECEIVED]: String(this.#taken),
        ...(last && { [END]: this.#conversation.endWord }),
      };
      await this.#hear(await this.#ask({ method: "PUT", headers, body, signal }));
      if (this.#out.tail < offset + body.length) throw new Error("the server did not take all of it");
    } catch (error) {
      // Of those that were given up for the repetition of an earlier one nothing is to be said.
      if (!signal.aborted) await this.#recover(error, body.length);
      return;
    }
    if (signal.aborted) return;
    this.#putting--;
    this.#putSize.took(body.length, performance.now() - start);
    this.#putAttempts.progress();
    if (last) this.#allSent();
    else this.#pump();
  }

  /** Goes on from the place that the server has got to. */
  async #recover(error: unknown, bytes: number): Promise<void> {
    this.#recovering = true;
    this.#puts.abort();
    this.#puts = new AbortController();
    if (this.#out.tail > this.#recoveredAt) this.#putAttempts.progress();
    this.#recoveredAt = this.#out.tail;
    try {
      for (let cause = error; ; ) {
        if (this.#conversation.over) return;
        const tooLarge = cause instanceof StatusError && cause.status === 413 && this.#putSize.refused(bytes);
        if (!tooLarge) {
          this.#putSize.broke();
          await this.#putAttempts.again(cause, this.#stop.signal);
        }
        try {
          await this.#hear(
            await this.#ask({
              method: "HEAD",
              headers: this.#having(),
              signal: this.#stop.signal,
            }),
          );
          break;
        } catch (failure) {
          cause = failure;
        }
      }
    } catch (cause) {
      return this.#fail(cause);
    } finally {
      this.#recovering = false;
    }
    this.#next = this.#out.tail;
    this.#endPut = false;
    this.#putting = 0;
    this.#pump();
  }

  #allSent(): void {
    this.#sentAll = true;
    this.#conversation.left();
    if (this.#conversation.heardAll) void this.#end(true);
  }

  // --- What comes

  #getting(): Getting {
    const channel = this;
    return {
      ask: (headers, signal) =>
        this.#ask({ method: "GET", headers: { ...this.#having(), ...headers }, signal }),
      hear: (answer) => this.#hear(answer),
      fail: (cause) => this.#fail(cause),
      get taken() {
        return channel.#taken;
      },
      get over() {
        return channel.#conversation.heardAll || channel.#conversation.over;
      },
    };
  }

  #having(): Record<string, string> {
    return { [RECEIVED]: String(this.#taken) };
  }

  /** A request of this channel. One that is not answered in time is repeated, as one that breaks: no transfer fails by that. */
  #ask(asking: Asking): Promise<HttpAnswer> {
    return this.line.ask(this.url, { ...asking, headersTimeout: 3 * POLL_MS });
  }

  /** Takes an answer: what the server has, and what it says. How many bytes it had. */
  async #hear({ statusCode, headers, body }: HttpAnswer): Promise<number> {
    const received = countOf(headers, RECEIVED);
    const offset = countOf(headers, OFFSET);
    if (statusCode !== 200 || received === undefined || offset === undefined) {
      body.on("error", () => {}).resume();
      throw new StatusError(statusCode);
    }
    if (received > this.#out.head || offset > this.#taken) {
      body.on("error", () => {}).resume();
      throw new TensorwireError("PROTOCOL", "the server has taken, or sent, bytes that never were");
    }
    this.#out.release(received);
    let at = offset;
    await new Promise<void>((resolve, reject) => {
      // While it waited for its turn.
      if (body.destroyed) return reject(new Error("the answer broke off"));
      body.on("data", (portion: Uint8Array) => {
        // The answers to a GET and to a PUT may bring the same.
        const known = this.#taken - at;
        at += portion.length;
        if (known < portion.length) this.#deliver(known > 0 ? portion.subarray(known) : portion);
      });
      body.on("end", resolve);
      body.on("error", reject);
      body.on("close", () => reject(new Error("the answer broke off")));
    });
    const end = endOf(headers);
    if (end) this.#heardEnd(end);
    return at - offset;
  }

  #deliver(portion: Uint8Array): void {
    this.#taken += portion.length;
    this.#conversation.deliver(portion);
  }

  #heardEnd(end: EndWord): void {
    if (this.#conversation.heardAll || this.#conversation.over) return;
    if (end === "dropped") return this.#fail(dropped());
    this.#conversation.hear(end);
    if (this.#sentAll) void this.#end(true);
  }

  // --- How it ends

  #fail(cause: unknown): void {
    if (this.#conversation.over) return;
    const error =
      cause instanceof TensorwireError
        ? cause
        : new TensorwireError("CHANNEL_CLOSED", `the HTTP channel broke: ${(cause as Error).message}`, {
            cause,
          });
    this.#conversation.refuse(error);
    this.#conversation.tell(this.#sentAll ? undefined : error);
    void this.#end(false);
  }

  /** Nothing happens any more. @param tell Whether the server is told that it can forget the transfer URL. */
  async #end(tell: boolean): Promise<void> {
    if (this.#conversation.over) return;
    this.#conversation.stop();
    this.#stop.abort();
    this.#puts.abort();
    if (tell) {
      const told = this.#ask({ method: "DELETE", headers: this.#having() });
      await withinGrace(
        told.then(
          ({ body }) => body.on("error", () => {}).resume(),
          () => {},
        ),
      );
    }
    this.line.close();
  }
}

const NOTHING = new Uint8Array(0);
