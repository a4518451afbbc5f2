import { type Channel, TensorwireError } from "@tensorwire/core";
import { Gate } from "../door/gate.js";
import { resolveTimeouts } from "../session/timeouts.js";
import { serveHttp } from "./http-server.js";
import { type ListeningPlace, type ListenOptions, listeningPlace } from "./listening-place.js";
import type { ChannelServer, Visitors } from "./server.js";
import { serveTcp } from "./tcp.js";
import { serveTls } from "./tls.js";
import type { TlsOptions } from "./tls-options.js";
import { serveUnix } from "./unix.js";
import { WaitingChannel } from "./waiting-channel.js";
import { serveWebSocket } from "./websocket-server.js";

// Connections that nobody has taken yet; one more is turned away.
const MAX_WAITING = 64;

/**
 * Takes connections and hands them out as channels.
 * @example
 * const listener = await listen({ url: "tcp://127.0.0.1:9000" });
 * await listener.close();
 */
export class Listener {
  readonly #waiting: Channel[] = [];
  #server!: ChannelServer;
  #gate: Gate | undefined;
  #taker: ((channel: Channel) => void) | undefined;
  #stopTaking: (() => void) | undefined;
  #closed = false;

  private constructor() {}

  /** @throws TensorwireError `INVALID_ARGUMENT`, also for an address off loopback that nothing guards; `CHANNEL_OPEN`. */
  static async open(options: ListenOptions = {}): Promise<Listener> {
    const place = listeningPlace(options);
    const listener = new Listener();
    listener.#server = await serve(place, options.tls, listener.#visitors(options));
    return listener;
  }

  #visitors({ authorize, ...options }: ListenOptions): Visitors {
    const { idleTimeoutMs } = resolveTimeouts({ idleTimeoutMs: options.idleTimeoutMs });
    const full = (): boolean => this.#closed || this.#waiting.length >= MAX_WAITING;
    const enter = (channel: WaitingChannel): void => {
      // A peer that left before anybody took it must not keep the place of one that comes.
      channel.onLeft = () => this.#forget(channel);
      this.#take(channel);
    };
    if (authorize) {
      this.#gate = new Gate({
        authorize,
        full,
        enter: ({ channel }) => enter(channel),
        helloTimeoutMs: idleTimeoutMs,
      });
      return this.#gate;
    }
    return {
      get full() {
        return full();
      },
      enter: (channel) => enter(new WaitingChannel(channel, () => {}, { idleTimeoutMs })),
    };
  }

  /** What peers dial. */
  get url(): string {
    return this.#server.url;
  }

  #take(channel: Channel): void {
    if (this.#taker) this.#taker(channel);
    else this.#waiting.push(channel);
  }

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
    this.#gate?.close(reason);
    const waiting = this.#waiting.splice(0).map((channel) => channel.close(reason));
    await Promise.all([this.#server.close(), ...waiting]);
  }
}

function serve(
  place: ListeningPlace,
  tls: TlsOptions | undefined,
  visitors: Visitors,
): Promise<ChannelServer> {
  switch (place.scheme) {
    case "unix":
      return serveUnix(place.path, visitors);
    case "tcp":
      return serveTcp(place.address, visitors);
    case "tls":
      return serveTls(place.address, tls, visitors);
    case "http":
      return serveHttp(place.address, undefined, visitors);
    case "https":
      return serveHttp(place.address, tls ?? {}, visitors);
    case "ws":
      return serveWebSocket(place.address, undefined, visitors);
    case "wss":
      // Without options it says which it needs.
      return serveWebSocket(place.address, tls ?? {}, visitors);
  }
}

/**
 * Listens for connections; pass the listener to `streamModel` or `receiveModel`.
 * @example
 * const listener = await listen({ port: 9000 });
 * const received = receiveModel(listener, { to: "copy.safetensors" });
 * await streamModel("model.safetensors", listener.url);
 * console.log((await received.done).confirmed); // true
 * await listener.close();
 */
export function listen(options?: ListenOptions): Promise<Listener> {
  return Listener.open(options);
}
