import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Channel, TensorwireError } from "@tensorwire/core";
import { WebSocketServer } from "ws";
import { isLoopback, MAX_PAYLOAD, webSocketChannel } from "./websocket.js";

export interface ListenOptions {
  /** Default 127.0.0.1. */
  readonly host?: string | undefined;
  /** Default 0: any free port. */
  readonly port?: number | undefined;
  /**
   * Without credentials a listener binds loopback only: this takes any peer of the network. Default false.
   */
  readonly insecure?: boolean | undefined;
}

// Connections that nobody has taken yet; one more is turned away.
const MAX_WAITING = 64;

/** Takes WebSocket connections and hands them out as channels. */
export class Listener {
  readonly #waiting: Channel[] = [];
  #taker: ((channel: Channel) => void) | undefined;
  #stopTaking: (() => void) | undefined;
  #closed = false;

  private constructor(
    /** What peers dial. */
    readonly url: string,
    private readonly stop: () => Promise<void>,
  ) {}

  /** @throws TensorwireError `INVALID_ARGUMENT` for an address off loopback without `insecure`, `CHANNEL_OPEN`. */
  static async open({
    host = "127.0.0.1",
    port = 0,
    insecure = false,
  }: ListenOptions = {}): Promise<Listener> {
    if (!insecure && !isLoopback(host)) {
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `listening on ${host} would take any peer that reaches it, without credentials: listen on 127.0.0.1, or say insecure (--insecure)`,
      );
    }
    const server = createServer((_request, response) => {
      response
        .writeHead(426, { Upgrade: "websocket", Connection: "close" })
        .end("This is a WebSocket endpoint.\n");
    });
    const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: MAX_PAYLOAD });
    try {
      await new Promise<void>((resolve, reject) => {
        sockets.once("error", reject);
        server.listen(port, host.replace(/^\[|\]$/g, ""), resolve);
      });
    } catch (cause) {
      const message = `cannot listen on ${host}:${port}: ${(cause as Error).message}`;
      throw new TensorwireError("CHANNEL_OPEN", message, { cause });
    }
    const { address, family, port: bound } = server.address() as AddressInfo;
    const listener = new Listener(
      `ws://${family === "IPv6" ? `[${address}]` : address}:${bound}`,
      async () => {
        sockets.close();
        await new Promise<void>((resolve) => {
          server.close(() => resolve());
          server.closeIdleConnections();
        });
      },
    );
    sockets.on("error", () => {});
    sockets.on("connection", (socket) => {
      socket.on("error", () => {});
      if (listener.#closed || listener.#waiting.length >= MAX_WAITING) return socket.terminate();
      const channel = webSocketChannel(socket);
      socket.on("close", () => listener.#forget(channel));
      listener.#take(channel);
    });
    return listener;
  }

  #take(channel: Channel): void {
    if (this.#taker) this.#taker(channel);
    else this.#waiting.push(channel);
  }

  // A peer that left before anybody took it must not keep the place of one that comes.
  #forget(channel: Channel): void {
    const at = this.#waiting.indexOf(channel);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /**
   * Gives every connection to `taker`, those that wait first, until `signal` aborts or the listener closes. One taker at
   * a time; between takers, connections wait.
   */
  async each(taker: (channel: Channel) => void, signal: AbortSignal): Promise<void> {
    if (this.#taker)
      throw new TensorwireError("INVALID_ARGUMENT", "the listener waits for another transfer already");
    if (this.#closed || signal.aborted) return;
    for (const channel of this.#waiting.splice(0)) taker(channel);
    this.#taker = taker;
    await new Promise<void>((resolve) => {
      this.#stopTaking = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.#taker = undefined;
  }

  /** Takes no more connections. Channels that were handed out stay open. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTaking?.();
    const reason = new TensorwireError("CHANNEL_CLOSED", "the listener is closed");
    await Promise.all(this.#waiting.splice(0).map((channel) => channel.close(reason)));
    // Not waited for: it ends when the last connection does.
    void this.stop();
  }
}

/** Listens for WebSocket connections; pass the listener to `streamModel` or `receiveModel`. */
export function listen(options?: ListenOptions): Promise<Listener> {
  return Listener.open(options);
}
