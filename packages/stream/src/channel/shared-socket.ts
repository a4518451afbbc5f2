import { setImmediate } from "node:timers/promises";
import { type Channel, TensorwireError } from "@tensorwire/core";
import WebSocket from "ws";
import { type Deferred, deferred } from "../session/deferred.js";
import { FORMS, formed, unmistakable } from "./foreign-message.js";
import { connectionOn } from "./known-connections.js";
import { SharedChannel } from "./shared-channel.js";
import {
  isMarked,
  MESSAGE_HEADER_BYTES,
  MessageKind,
  readMessage,
  SHARED_MESSAGE_BYTES,
  writeHeader,
} from "./socket-message.js";
import { closedError, closeError, WebSocketEnd } from "./websocket-end.js";

/** A WebSocket that carries models, and the messages of another program. */
export interface SharedSocket {
  /**
   * For models, as many as there are, one after the other and at once, in both directions. Where it has failed, or was closed,
   * this is another one, and so it is at the other end.
   */
  readonly channel: Channel;
  /** The socket, for the other program: of what goes over it, it sees its own messages, whatever they hold, and no others. */
  readonly socket: WebSocket;
}

type Send = (data: unknown, options: unknown, written: unknown) => void;

const shares = new WeakMap<object, SocketShare>();

/**
 * Lets a model travel over a WebSocket of the `ws` package that carries other messages already: at both ends, before the first model, and
 * best as soon as there is the socket. The other program's messages stay in order, and each waits behind one
 * message of ours at most, of 256 KiB, in this process. Called again for the same socket it gives the same.
 *
 * @throws TensorwireError `INVALID_ARGUMENT` for what is no WebSocket of `ws`.
 * @example
 * // not run: needs a framework, and its WebSocket
 * const shared = shareSocket(webSocket);
 * framework.use(shared.socket);
 * await streamModel(model, shared.channel, { codec: "normfloat4" });
 */
export function shareSocket(socket: WebSocket): SharedSocket {
  let share = shares.get(socket);
  if (!share) {
    const { emit, send, terminate } = Object(socket) as Partial<WebSocket>;
    if ([emit, send, terminate].some((method) => typeof method !== "function")) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        "this is no WebSocket of the ws package: it cannot be shared",
      );
    }
    share = new SocketShare(socket);
    shares.set(socket, share);
  }
  return share;
}

/** The channel of a socket that is shared: the socket itself is another program's then. */
export function sharedChannelOf(endpoint: object): Channel | undefined {
  return shares.get(endpoint)?.channel;
}

/**
 * What stands between a socket and those who use it: messages are sorted where they come in, so that whoever listens, in whatever
 * way, hears of the other program's alone.
 */
class SocketShare implements SharedSocket {
  readonly #emit: WebSocket["emit"];
  readonly #send: Send;
  /** In which form the other program wants its binary messages. */
  #form: string;
  #channel: SharedChannel;
  /** Ours go one after the other, through one buffer: another program's message waits behind one of them at most. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #message = Buffer.allocUnsafeSlow(SHARED_MESSAGE_BYTES);
  /** The other program is in the middle of a message that it sends piece by piece: nothing of ours may come between. */
  #unfinished: Deferred<void> | undefined;
  #closed = false;
  readonly #end = new WebSocketEnd();
  /** Bytes of ours that the socket has taken and not yet written. */
  #buffered = 0;

  constructor(readonly socket: WebSocket) {
    this.#emit = socket.emit;
    this.#send = socket.send.bind(socket) as Send;
    this.#form = socket.binaryType;
    this.#channel = this.#next(1, Promise.resolve());
    this.#interpose();
    if (socket.readyState === WebSocket.CLOSED) this.#ended(undefined);
  }

  /** Neither its listeners nor its class change: it still is the very socket. */
  #interpose(): void {
    const { socket } = this;
    const share = this;
    this.#takeForm();
    socket.emit = function (this: WebSocket, event: string | symbol, ...args: unknown[]): boolean {
      // No listeners of ours: the other program may remove all that there are.
      if (event === "message" && args[1] === true) return share.#arrived(args[0] as Buffer);
      // Whoever reads from the connection was made for the form that the other program had asked for.
      if (event === "open") share.#takeForm();
      if (event === "error") share.#ended(args[0] as Error);
      if (event === "close") {
        const [code, reason] = [args[0] as number, String(args[1])];
        share.#ended(closeError(code, reason), closedError(code, reason));
      }
      return share.#emit.call(this, event, ...args);
    } as WebSocket["emit"];
    socket.send = ((data: unknown, options?: unknown, written?: unknown) =>
      this.#outgoing(data, options, written)) as WebSocket["send"];
    Object.defineProperty(socket, "bufferedAmount", {
      configurable: true,
      enumerable: true,
      get: () => Math.max(0, this.#waiting - this.#buffered),
    });
  }

  /** Bytes that the socket has to write, whoever's. */
  get #waiting(): number {
    return Reflect.get(Object.getPrototypeOf(this.socket), "bufferedAmount", this.socket);
  }

  /** Whatever form the other program wants, ours come as they are. */
  #takeForm(): void {
    const { socket } = this;
    Reflect.deleteProperty(socket, "binaryType");
    socket.binaryType = "nodebuffer";
    Object.defineProperty(socket, "binaryType", {
      configurable: true,
      enumerable: true,
      get: () => this.#form,
      set: (form: string) => {
        if (FORMS.includes(form)) this.#form = form;
      },
    });
  }

  get channel(): Channel {
    const { number, silent } = this.#channel;
    if (this.#spent && !this.#closed) this.#channel = this.#next(number + 1, silent);
    return this.#channel;
  }

  /** What fails on a channel has failed before the channel has: the peer is told first. */
  get #spent(): boolean {
    return this.#channel.over || connectionOn(this.#channel)?.failure !== undefined;
  }

  #next(number: number, before: Promise<void>): SharedChannel {
    return new SharedChannel(number, (kind, channel, fill) => this.#ours(kind, channel, fill), before);
  }

  /** A binary message. */
  #arrived(data: Buffer): boolean {
    const message = isMarked(data) ? readMessage(data) : undefined;
    if (!message) return this.#theirs(data);
    const { kind, channel, body } = message;
    if (kind === MessageKind.ESCAPED) return this.#theirs(Buffer.from(body));
    if (channel === this.#channel.number) this.#channel.arrived(kind, body);
    // The other end has begun with the next one. What is of an earlier one was on its way when that was given up.
    else if (channel === this.#channel.number + 1 && this.#spent) {
      (this.channel as SharedChannel).arrived(kind, body);
    }
    return true;
  }

  #theirs(data: Buffer): boolean {
    return this.#emit.call(this.socket, "message", formed(data, this.#form), true);
  }

  /** A message of the other program, or, where it says so, a piece of one. */
  #outgoing(data: unknown, options: unknown, written: unknown): void {
    // As ws has it: what is given as undefined is no default of its.
    const text = typeof data === "string" || typeof data === "number";
    const { binary, fin } = { binary: !text, fin: true, ...(options as SendOptions) };
    const begins = !this.#unfinished;
    const sent = begins && binary ? unmistakable(data, fin) : data;
    this.#send(sent, options, written);
    if (!fin) this.#unfinished ??= deferred<void>();
    else {
      this.#unfinished?.resolve();
      this.#unfinished = undefined;
    }
  }

  /** One message of ours, when no other of ours is on its way. */
  #ours(kind: MessageKind, channel: number, fill: (room: Uint8Array) => number): Promise<void> {
    const sent = this.#turn.then(async () => {
      await this.#opened();
      while (this.#unfinished && !this.#closed) await this.#unfinished.promise;
      writeHeader(this.#message, kind, channel);
      const bytes = fill(this.#message.subarray(MESSAGE_HEADER_BYTES));
      // Given up meanwhile.
      if (kind === MessageKind.BYTES && bytes === 0) return;
      await this.#written(this.#message.subarray(0, MESSAGE_HEADER_BYTES + bytes));
    });
    // The other program has its turn before the next one, also where the socket takes all that it is given.
    this.#turn = sent.catch(() => {}).then(() => setImmediate());
    return sent;
  }

  #written(message: Uint8Array): Promise<void> {
    const { socket } = this;
    const written = new Promise<void>((resolve, reject) => {
      const before = this.#waiting;
      this.#send(message, { binary: true, compress: false }, (error?: Error) => {
        this.#buffered = 0;
        // Node says of what a destroyed socket had in hand that it was written.
        if (error || socket.readyState === WebSocket.CLOSED) reject(error);
        else resolve();
      });
      this.#buffered = this.#waiting - before;
    });
    return written.catch(async () => Promise.reject(await this.#end.why()));
  }

  /** Resolves when a socket that is opening is open. @throws TensorwireError `CHANNEL_CLOSED` where it is neither. */
  async #opened(): Promise<void> {
    const { socket } = this;
    if (socket.readyState === WebSocket.CONNECTING) {
      await new Promise<void>((resolve) => {
        socket.once("open", resolve);
        socket.once("close", () => resolve());
      });
    }
    if (socket.readyState !== WebSocket.OPEN) throw await this.#end.why();
  }

  /** @param reason For who would still send. */
  #ended(error: Error | undefined, reason = error): void {
    if (reason) this.#end.is(reason);
    if (this.#closed) return;
    this.#closed = true;
    this.#unfinished?.resolve();
    this.#channel.end(error);
  }
}

interface SendOptions {
  readonly binary?: boolean;
  readonly fin?: boolean;
}
