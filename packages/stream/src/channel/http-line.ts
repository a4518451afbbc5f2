import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import type { Readable } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type { buildConnector, Dispatcher } from "undici";
import { headersWith } from "../door/credential.js";
import { withoutBrackets } from "./address.js";
import { proxyFor } from "./proxy.js";
import { clientTls, type TlsOptions } from "./tls-options.js";

type Undici = typeof import("undici");

/** Connections of one channel: two PUTs, two GETs, and one for what ends it. */
const CHANNEL_CONNECTIONS = 5;

/** How long a host may take to let a connection in: another one is tried then. */
const CONNECT_MS = 30_000;

export interface HttpAnswer {
  readonly statusCode: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
}

export interface HttpLineOptions {
  readonly tls?: TlsOptions | undefined;
  /** A bearer token, shown with every request. Never in clear text beyond loopback. */
  readonly token?: string | undefined;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

export interface Asking {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE";
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** How long to wait for an answer to begin; 0 is for ever. */
  readonly headersTimeout?: number;
}

/** Requests to one server, directly or through the proxy that the environment names. */
export class HttpLine {
  readonly #headers: Readonly<Record<string, string>>;
  readonly #dispatch: (undici: Undici) => Dispatcher;
  #dispatcher: Dispatcher | undefined;
  #closed = false;
  /** Connections that are being made. */
  readonly #making = new Set<AbortController>();

  /** @throws TensorwireError `INVALID_ARGUMENT` for TLS options, a token or a proxy that are none, or a token in clear text. */
  constructor(
    url: URL,
    { tls, ...shown }: HttpLineOptions = {},
    /** Requests at once, at most. */
    connections = CHANNEL_CONNECTIONS,
  ) {
    this.#headers = headersWith(url, shown);
    this.#dispatch = dispatcherFor(url, tls, connections, this.#making);
  }

  /** No clock but the caller's: a slow answer is no dead one. */
  ask(url: URL, asking: Asking): Promise<HttpAnswer> {
    const answer = this.#request(url, asking);
    return asking.signal ? unless(asking.signal, answer) : answer;
  }

  async #request(
    url: URL,
    { method, headers, body, signal, headersTimeout = 0 }: Asking,
  ): Promise<HttpAnswer> {
    // Loaded by whoever asks: it takes as long as all else that a transfer needs, which over a WebSocket needs none of it.
    const undici = await import("undici");
    this.#dispatcher ??= this.#dispatch(undici);
    // Closed before it was there: it refuses, as it does after that.
    if (this.#closed) this.close();
    return undici.request(url, {
      method,
      headers: { ...this.#headers, ...headers },
      body: body ?? null,
      signal: signal ?? null,
      dispatcher: this.#dispatcher,
      headersTimeout,
      bodyTimeout: 0,
    });
  }

  /** Ends every connection at once, also those that are being made. */
  close(): void {
    this.#closed = true;
    for (const attempt of this.#making) attempt.abort();
    void this.#dispatcher?.destroy().catch(() => {});
  }
}

/** undici looks at the signal of a request only when it has a connection, which a silent host never gives it. */
async function unless(signal: AbortSignal, answer: Promise<HttpAnswer>): Promise<HttpAnswer> {
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([answer, aborted]);
  } catch (error) {
    answer.then(
      ({ body }) => body.on("error", () => {}).destroy(),
      () => {},
    );
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort!);
  }
}

/** Checks what it is to be made of, and says how. */
function dispatcherFor(
  url: URL,
  tls: TlsOptions | undefined,
  connections: number,
  making: Set<AbortController>,
): (undici: Undici) => Dispatcher {
  const proxy = proxyFor(url);
  const secure = tls ? clientTls(tls) : {};
  if (!proxy) {
    return ({ Agent, buildConnector }) =>
      new Agent({ connections, connect: interruptible(buildConnector, secure, making) });
  }
  const host = withoutBrackets(url.hostname);
  // A URL without TLS is asked of the proxy itself, as everybody does: many make tunnels to the port of TLS only.
  const requestTls = { ...(!isIP(host) && { servername: host }), ...secure, timeout: CONNECT_MS };
  const proxyTls = { timeout: CONNECT_MS };
  return ({ ProxyAgent }) =>
    new ProxyAgent({ uri: proxy.href, connections, proxyTunnel: false, requestTls, proxyTls });
}

/**
 * Connections that can be given up while they are being made, for which undici has no way. A signal each: Node leaves its
 * listener on one for as long as the signal lives.
 */
function interruptible(
  connector: Undici["buildConnector"],
  settings: Omit<ConnectionOptions, "port">,
  making: Set<AbortController>,
): buildConnector.connector {
  let session: Buffer | undefined;
  return (options, callback) => {
    const attempt = new AbortController();
    making.add(attempt);
    const { signal } = attempt;
    const connect = connector({
      ...settings,
      timeout: CONNECT_MS,
      signal,
      ...(session && { session }),
    });
    connect(options, (...outcome) => {
      making.delete(attempt);
      const [, socket] = outcome;
      // As undici does: the next one need not agree on everything anew.
      socket?.on("session", (latest: Buffer) => {
        session = latest;
      });
      callback(...outcome);
    });
  };
}
