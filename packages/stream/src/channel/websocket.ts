import { randomFillSync } from "node:crypto";
import type { Socket } from "node:net";
import {
  BufferPool,
  type Channel,
  type ChannelPeer,
  type ChannelReceiver,
  type Loan,
  TensorwireError,
  unpooled,
} from "@tensorwire/core";
import WebSocket, { type ClientOptions, type RawData } from "ws";
import { discardSlab } from "../budget/slab-memory.js";
import { headersWith } from "../door/credential.js";
import { withinGrace } from "../session/grace.js";
import { isLoopback, shownUrl } from "./address.js";
import { dialFault } from "./dial-fault.js";
import { EarlyBytes } from "./early-bytes.js";
import { tunnelTo } from "./proxy.js";
import { statusError } from "./refusal-status.js";
import { clientTls, type TlsOptions } from "./tls-options.js";
import { closedError, closeError, WebSocketEnd } from "./websocket-end.js";
import { WebSocketPayloads } from "./websocket-payloads.js";

/** Bytes of one WebSocket message, whatever the frame: a reader that waits for all of a message has to hold it. */
const MESSAGE_BYTES = 256 * 1024;

/**
 * How a client masks what it sends (RFC 6455, 5.3). Masks keep hostile browser scripts from writing chosen bytes to
 * proxies; between two Node processes they buy nothing and cost most of the throughput.
 * `auto`: a mask of zeros, which changes no byte, to loopback and under TLS; random masks elsewhere.
 */
export type Masking = "auto" | "random" | "zero";

/** How a URL is dialled. */
export interface DialOptions {
  /** How what is sent is masked. Default `auto`. */
  readonly masking?: Masking | undefined;
  /** For `wss:`, `https:` and `tls:`. */
  readonly tls?: TlsOptions | undefined;
  /**
   * What this end shows for who it is: a bearer token, in a header where the channel has them, else in HELLO. Never in clear
   * text beyond loopback.
   */
  readonly token?: string | undefined;
  /** Cancels dialling. */
  readonly signal?: AbortSignal | undefined;
  /** Sent with every request, and with the one that opens a WebSocket. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Passed to `ws`. */
  readonly client?: ClientOptions | undefined;
}

/**
 * Opens a WebSocket and makes it a channel.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`, `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`, `SERVER_BUSY`, `ABORTED`.
 * @example
 * const channel = await dialWebSocket("wss://host:9000/models/base", { token });
 * await receiveModel(channel, { to: "copy.safetensors" }).done;
 */
export async function dialWebSocket(url: string, options: DialOptions = {}): Promise<Channel> {
  const { signal, token } = options;
  const at = new URL(url);
  const agent = await tunnelTo(at);
  signal?.throwIfAborted();
  const socket = new WebSocket(url, {
    ...(agent && { agent }),
    ...options.client,
    headers: headersWith(at, { token, headers: { ...options.client?.headers, ...options.headers } }),
    ...(options.tls && clientTls(options.tls)),
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD,
    generateMask: maskFor(at, options.masking ?? "auto"),
  });
  const secure = at.protocol === "wss:";
  const channel = webSocketChannel(socket, {
    peer: { address: at.host, private: secure || isLoopback(at.hostname) },
    side: "client",
  });
  let onAbort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => reject(signal!.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      socket.once("open", resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the peer closed the connection")));
      // Its words are not read: a server may never end what it says of its refusal.
      socket.once("unexpected-response", (_request, { statusCode = 0 }) =>
        reject(statusError(url, statusCode)),
      );
    });
  } catch (cause) {
    socket.on("error", () => {});
    socket.terminate();
    if (signal?.aborted || cause instanceof TensorwireError) throw cause;
    throw dialFault(shownUrl(url), cause);
  } finally {
    signal?.removeEventListener("abort", onAbort!);
  }
  return channel;
}

/** Close code where something failed (RFC 6455, 7.4.1). */
const FAILED = 1011;

/** Larger than any message may be. One that ws reads is held until it is complete, before anybody has granted it credit. */
export const MAX_PAYLOAD = 1024 * 1024;

const ZEROS = (mask: Buffer): void => void mask.fill(0);
const RANDOM = (mask: Buffer): void => void randomFillSync(mask);

function maskFor({ protocol, hostname }: URL, masking: Masking): (mask: Buffer) => void {
  if (masking !== "auto") return masking === "zero" ? ZEROS : RANDOM;
  return protocol === "wss:" || isLoopback(hostname) ? ZEROS : RANDOM;
}

/**
 * An open, or opening, WebSocket as a channel. It can be opened once, from either side.
 * @example
 * import WebSocket from "ws";
 *
 * await receiveModel(webSocketChannel(new WebSocket("ws://host:9000/models/base", "tensorwire")), { to: "copy.safetensors" }).done;
 */
export function webSocketChannel(socket: WebSocket, known: WebSocketSurroundings = {}): Channel {
  return new WebSocketChannel(socket, known);
}

/** What is known of a WebSocket beside itself. */
export interface WebSocketSurroundings {
  /** What it runs on: of one that opens it is found out. */
  readonly under?: Socket | undefined;
  readonly peer?: ChannelPeer | undefined;
  /** Which end this is of one that was made here, and that nobody else listens to; undefined of a caller's. */
  readonly side?: "client" | "server" | undefined;
}

class WebSocketChannel implements Channel {
  readonly kind = "websocket";
  readonly direction = "both";
  readonly peer: ChannelPeer | undefined;
  #under: Socket | undefined;
  #receiver: ChannelReceiver | undefined;
  readonly #early = new EarlyBytes();
  /** What small parts are joined in, until it is written: a buffer anew for each message would wait for the garbage collector. */
  readonly #joined = new BufferPool(MESSAGE_BYTES, undefined, discardSlab);
  #ended: { readonly error?: Error | undefined } | undefined;
  #closing: Promise<void> | undefined;
  readonly #over = new WebSocketEnd();

  constructor(
    private readonly socket: WebSocket,
    { under, peer, side }: WebSocketSurroundings,
  ) {
    this.#under = under;
    this.peer = peer;
    socket.once("upgrade", ({ socket }) => {
      this.#under = socket;
    });
    if (side) this.#takePayloads(side);
    socket.on("message", (data: RawData, isBinary: boolean) => this.#message(data, isBinary));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", (code, reason) => {
      this.#over.is(closedError(code, reason.toString()));
      this.#end(closeError(code, reason.toString()));
    });
  }

  /** From the socket under it, before anything is read. */
  #takePayloads(side: "client" | "server"): void {
    const step = (): void =>
      WebSocketPayloads.of(this.#under!, side, MAX_PAYLOAD, (portion) => this.#take(portion));
    if (this.#under) step();
    else this.socket.once("open", step);
  }

  open(receiver: ChannelReceiver): void {
    this.#receiver = receiver;
    this.#early.give(receiver);
    if (this.#ended) receiver.end(this.#ended.error);
  }

  #message(data: RawData, isBinary: boolean): void {
    if (this.#ended) return;
    if (!isBinary) return this.#fail(new TensorwireError("PROTOCOL", "a text message on a channel of bytes"));
    for (const bytes of Array.isArray(data) ? data : [data]) {
      this.#take(bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes);
    }
  }

  #take(portion: Uint8Array): void {
    if (this.#ended) return;
    if (this.#receiver) void this.#receiver.bytes(portion);
    else this.#hold(portion);
  }

  #hold(portion: Uint8Array): void {
    try {
      this.#early.hold(portion);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    const { socket } = this;
    if (socket.readyState === WebSocket.CONNECTING) await opened(socket);
    if (socket.readyState !== WebSocket.OPEN) throw await this.#over.why();
    const sent = new Promise<void>((resolve, reject) => {
      let left = 1;
      const written = (error?: Error | null): void => {
        // Node says of what a destroyed socket had in hand that it was written.
        if (error || this.#under?.destroyed) reject(error);
        else if (--left === 0) resolve();
      };
      for (const message of messages(parts, this.#joined)) {
        left++;
        socket.send(message.bytes, { binary: true, compress: false }, (error) => {
          message.release();
          written(error);
        });
      }
      written();
    });
    await sent.catch(async () => Promise.reject(await this.#over.why()));
  }

  close(error?: Error): Promise<void> {
    // An orderly close waits for the peer: this one does not.
    if (error && this.#closing) this.socket.terminate();
    this.#over.is(error ?? new TensorwireError("CHANNEL_CLOSED", "the WebSocket was closed on this side"));
    this.#closing ??= this.#close(error);
    return this.#closing;
  }

  async #close(error?: Error): Promise<void> {
    const { socket } = this;
    if (socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
    else socket.close(error ? FAILED : 1000);
    if (error) {
      // Not cut off at once: while the peer still sends, that would be a reset, and the peer's next write would fail
      // before it has read our last words.
      await withinGrace(closed);
      socket.terminate();
    }
    await closed;
  }

  #fail(error: Error): void {
    this.#end(error);
    this.socket.terminate();
  }

  #end(error?: Error): void {
    if (error) this.#over.is(error);
    if (this.#ended) return;
    this.#ended = { error };
    this.#receiver?.end(error);
  }
}

/** Resolves when a socket that is opening is open, or has failed to. */
function opened(socket: WebSocket): Promise<void> {
  return new Promise((resolve) => {
    socket.once("open", resolve);
    socket.once("close", () => resolve());
  });
}

/** Cuts large parts; joins small ones, which would cost a message each, in loans of `joined`. */
function* messages(parts: readonly Uint8Array[], joined: BufferPool): Generator<Loan> {
  let small: Uint8Array[] = [];
  let bytes = 0;
  for (const part of parts) {
    if (bytes + part.length > MESSAGE_BYTES && bytes) {
      yield join(small, bytes, joined);
      small = [];
      bytes = 0;
    }
    if (part.length > MESSAGE_BYTES) {
      for (let at = 0; at < part.length; at += MESSAGE_BYTES) {
        yield unpooled(part.subarray(at, at + MESSAGE_BYTES));
      }
    } else {
      small.push(part);
      bytes += part.length;
    }
  }
  if (bytes) yield join(small, bytes, joined);
}

function join(parts: readonly Uint8Array[], bytes: number, pool: BufferPool): Loan {
  if (parts.length === 1) return unpooled(parts[0]!);
  const loan = pool.lend(bytes);
  let at = 0;
  for (const part of parts) {
    loan.bytes.set(part, at);
    at += part.length;
  }
  return loan;
}
