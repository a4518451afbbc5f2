import type { IncomingMessage, ServerResponse } from "node:http";
import { type Channel, type ChannelPeer, type ChannelReceiver, TensorwireError } from "@tensorwire/core";
import { HttpConversation } from "./http-conversation.js";
import {
  countOf,
  END,
  endOf,
  FROM,
  MAX_ANSWER_BYTES,
  MAX_BODY_BYTES,
  MOST,
  OFFSET,
  POLL_MS,
  RECEIVED,
} from "./http-exchange.js";
import { answer } from "./http-answer.js";
import { type IncomingPut, IncomingPuts } from "./incoming-puts.js";
import { MIN_BODY_BYTES } from "./body-size.js";
import { RetainedBytes } from "./retained-bytes.js";
import { SocketEnds } from "./socket-ends.js";

/** How long a peer may stay away whose connection broke: it repeats what it asked, well within that. */
export const BROKEN_MS = 5_000;
/** How long any other may. It always has a GET here: to stay away is to be gone. */
export const ABSENT_MS = 120_000;

interface WaitingGet {
  readonly response: ServerResponse;
  /** Place at which its answer is to begin. */
  readonly from: number;
  readonly timer: NodeJS.Timeout;
}

/** The end of an HTTP channel that answers requests. Every answer follows from what the request says that its peer has. */
export class HttpServerChannel implements Channel {
  readonly kind = "http";
  readonly direction = "both";
  /** What a GET's answer may have: its peer measures its own line. */
  #most = MAX_ANSWER_BYTES;
  readonly #out: RetainedBytes = new RetainedBytes(
    (): number => Math.max(2 * this.#most, this.#brought - this.#out.tail + this.#most / 2),
    () => this.#answerGet(),
  );
  readonly #conversation = new HttpConversation(this.#out, () => this.#drop());
  readonly #puts: IncomingPuts;
  #get: WaitingGet | undefined;
  /** Place behind what answers under way, or taken, have brought. */
  #brought = 0;
  /** Answers under way that bring something. */
  readonly #bringing = new Set<ServerResponse>();
  readonly #responses = new Set<ServerResponse>();
  readonly #sockets = new SocketEnds(() => {
    if (this.#responses.size === 0) this.#expect(BROKEN_MS);
  });
  /** When the peer is taken for gone. */
  #absence: { readonly timer: NodeJS.Timeout; readonly deadline: number } | undefined;

  /**
   * @param request What asked for the channel.
   * @param onOver Called when no more requests will be answered.
   */
  constructor(
    request: IncomingMessage,
    readonly peer: ChannelPeer,
    private readonly onOver: () => void,
  ) {
    this.#puts = new IncomingPuts({
      bytes: (portion) => this.#conversation.deliver(portion),
      taken: (put) => this.#answerPut(put),
    });
    this.#watch(request);
    this.#expect(ABSENT_MS);
  }

  open(receiver: ChannelReceiver): void {
    if (this.#conversation.open(receiver)) this.#puts.start();
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    return this.#conversation.send(parts);
  }

  close(error?: Error): Promise<void> {
    return this.#conversation.close(error);
  }

  // --- Requests

  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#attend(request, response);
    const { method, headers } = request;
    const received = countOf(headers, RECEIVED);
    if (received === undefined || received > this.#out.head) return answer(response, 400);
    this.#out.release(received);
    // Another request may have said more since. What lies where the earlier bytes were is none of theirs.
    const from = this.#out.tail;
    switch (method) {
      case "PUT":
        return this.#take(request, response);
      case "GET":
        return this.#bring(response, countOf(headers, FROM) ?? from, countOf(headers, MOST));
      case "HEAD":
        return this.#answer(response, from, 0);
      case "DELETE":
        this.#conversation.hear(this.#conversation.heardAll || this.#out.finished ? "complete" : "dropped");
        answer(response, 204);
        return this.#end();
      default:
        return answer(response, 405);
    }
  }

  /** Knows by the requests whether there still is a peer. */
  #attend(request: IncomingMessage, response: ServerResponse): void {
    this.#stopWaiting();
    this.#responses.add(response);
    const lasting = this.#watch(request);
    response.once("close", () => {
      this.#responses.delete(response);
      this.#bringing.delete(response);
      if (!response.writableFinished) this.#brought = this.#out.tail;
      this.#leave();
      this.#answerGet();
      if (this.#responses.size > 0) return;
      const broken = !response.writableFinished || (lasting && request.socket.destroyed);
      this.#expect(broken ? BROKEN_MS : ABSENT_MS);
    });
  }

  /** A connection that was meant to last says by its end what an unfinished answer would. Whether it was. */
  #watch({ socket, headers, httpVersion }: IncomingMessage): boolean {
    if (httpVersion === "1.0" || headers.connection?.toLowerCase() === "close") return false;
    this.#sockets.watch(socket);
    return true;
  }

  #expect(milliseconds: number): void {
    const deadline = performance.now() + milliseconds;
    if (this.#conversation.over || (this.#absence && this.#absence.deadline <= deadline)) return;
    this.#stopWaiting();
    const gone = (): void => {
      this.#conversation.tell(
        new TensorwireError("CHANNEL_CLOSED", "the peer of the HTTP channel makes no requests any more"),
      );
      this.#end();
    };
    // To a peer that has closed there is nothing more to say.
    if (this.#conversation.heardAll && milliseconds === BROKEN_MS) return gone();
    this.#absence = { timer: setTimeout(gone, milliseconds), deadline };
  }

  #stopWaiting(): void {
    clearTimeout(this.#absence?.timer);
    this.#absence = undefined;
  }

  // --- What comes

  #take(request: IncomingMessage, response: ServerResponse): void {
    const offset = countOf(request.headers, OFFSET);
    if (offset === undefined) return answer(response, 400);
    this.#puts.enter({ request, response, offset });
  }

  #answerPut({ request, response }: IncomingPut): void {
    const end = endOf(request.headers);
    if (end) this.#conversation.hear(end);
    // What another answer brings is not brought twice.
    const { tail } = this.#out;
    this.#answer(response, tail, tail >= this.#brought ? MAX_ANSWER_BYTES : 0);
  }

  // --- What goes

  #bring(response: ServerResponse, from: number, most = MAX_BODY_BYTES): void {
    if (from > this.#out.head) return answer(response, 400);
    this.#most = Math.max(MIN_BODY_BYTES, Math.min(most, MAX_BODY_BYTES));
    this.#answerGet(true);
    const timer = setTimeout(() => this.#answerGet(true), POLL_MS);
    this.#get = { response, from, timer };
    response.once("close", () => {
      if (this.#get?.response === response) this.#forgetGet();
    });
    this.#out.fill();
    this.#answerGet();
  }

  /** Answers the GET that waits, if there is something for it. */
  #answerGet(anyway = false): void {
    const get = this.#get;
    if (!get) return;
    const out = this.#out;
    const from = Math.max(get.from, out.tail);
    // While another answer is under way little waits for more.
    const least = this.#bringing.size > 0 ? this.#most / 2 : 1;
    if (!anyway && !out.finished && out.head - from < least) return;
    this.#forgetGet();
    this.#answer(get.response, from, this.#most);
  }

  #forgetGet(): void {
    clearTimeout(this.#get?.timer);
    this.#get = undefined;
  }

  #answer(response: ServerResponse, from: number, most: number): void {
    const out = this.#out;
    const pieces = most > 0 ? out.read(from, most) : [];
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    const last = out.finished && from + bytes === out.head;
    this.#brought = Math.max(this.#brought, from + bytes);
    if (bytes > 0) this.#bringing.add(response);
    if (last) response.once("finish", () => this.#leave(response));
    answer(
      response,
      200,
      { [RECEIVED]: this.#puts.received, [OFFSET]: from, ...(last && { [END]: this.#conversation.endWord }) },
      pieces,
    );
  }

  // --- How it ends

  /** @param last What has brought the end. */
  #leave(last?: ServerResponse): void {
    if (last) this.#bringing.delete(last);
    if (this.#out.finished && this.#brought === this.#out.head && this.#bringing.size === 0) {
      this.#conversation.left();
    }
  }

  /** Nothing waits for what is under way. */
  #drop(): void {
    this.#end();
    for (const response of this.#responses) if (!response.writableFinished) response.destroy();
  }

  #end(): void {
    if (this.#conversation.over) return;
    this.#sockets.stop();
    this.#stopWaiting();
    this.#conversation.stop();
    this.#answerGet(true);
    this.#puts.stop();
    this.onOver();
  }
}
