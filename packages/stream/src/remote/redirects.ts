import { TensorwireError } from "@tensorwire/core";
import { dialWithin } from "../channel/dial-watch.js";
import { isLoopback, shownUrl } from "../channel/address.js";
import { type Asking, type HttpAnswer, HttpLine, type HttpLineOptions } from "../channel/http-line.js";

/** More than any chain of mirrors needs. */
export const MAX_REDIRECTS = 5;

const REDIRECTS = [301, 302, 303, 307, 308];

export interface RedirectOptions extends HttpLineOptions {
  /** Requests at once, at most, of each server. */
  readonly connections: number;
  readonly idleTimeoutMs: number;
}

/**
 * Asks for one URL, and for wherever its server says that the file lies. What this side shows for who it is goes to the
 * URL's own origin and nowhere else; from TLS nothing leads to clear text, and from elsewhere nothing to this machine.
 */
export class Redirects {
  readonly #lines = new Map<string, HttpLine>();
  /** Where the last answer came from: others are asked for there at once. */
  #at: URL;

  /** @throws TensorwireError `INVALID_ARGUMENT` as `HttpLine`. */
  constructor(
    private readonly url: URL,
    private readonly options: RedirectOptions,
  ) {
    this.#at = url;
    this.#line(url);
  }

  /** Whether the last answer came from somewhere else. */
  get redirected(): boolean {
    return this.#at !== this.url;
  }

  /** Begins with the URL itself again: where it led to may have been good for a while only. */
  forget(): void {
    this.#at = this.url;
  }

  /** @throws TensorwireError `CHANNEL_OPEN` where it leads too far, `IDLE_TIMEOUT`; what the connection failed with. */
  async ask(asking: Asking & { readonly signal: AbortSignal }): Promise<HttpAnswer> {
    let at = this.#at;
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const { idleTimeoutMs } = this.options;
      const answer = await dialWithin(at.href, idleTimeoutMs, asking.signal, (signal) =>
        this.#line(at).ask(at, { ...asking, signal }),
      );
      const { location } = answer.headers;
      if (!REDIRECTS.includes(answer.statusCode) || location === undefined) {
        this.#at = at;
        return answer;
      }
      answer.body.on("error", () => {}).destroy();
      at = this.#next(at, location);
    }
    throw this.#astray(`to more than ${MAX_REDIRECTS} others`);
  }

  #next(from: URL, location: string): URL {
    if (!URL.canParse(location, from.href)) throw this.#astray("to what is no URL");
    const next = new URL(location, from);
    next.hash = "";
    if (next.origin === this.url.origin) return next;
    const shown = shownUrl(next.href);
    if (!["http:", "https:"].includes(next.protocol))
      throw this.#astray(`to ${shown}, which is no web server's`);
    if (from.protocol === "https:" && next.protocol === "http:")
      throw this.#astray(`to clear text, at ${shown}`);
    if (isLoopback(next.hostname) && !isLoopback(this.url.hostname))
      throw this.#astray(`to this machine, at ${shown}`);
    return next;
  }

  #astray(where: string): TensorwireError {
    const message = `${shownUrl(this.url.href)} leads ${where}: give the URL where the file lies`;
    return new TensorwireError("CHANNEL_OPEN", message, { retryable: false });
  }

  #line(at: URL): HttpLine {
    const known = this.#lines.get(at.origin);
    if (known) return known;
    const { tls, token, headers, connections } = this.options;
    const own = at.origin === this.url.origin;
    // Others are believed by the same authorities, and get no certificate, token or header.
    const others = tls && { ca: tls.ca, rejectUnauthorized: tls.rejectUnauthorized };
    const line = new HttpLine(at, own ? { tls, token, headers } : { tls: others }, connections);
    this.#lines.set(at.origin, line);
    return line;
  }

  /** Ends every connection at once. */
  close(): void {
    for (const line of this.#lines.values()) line.close();
  }
}
