import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { asTensorwireError } from "@tensorwire/core";
import { sameSecret } from "../door/credential.js";
import { ID_PARAMETER, MEDIA_TYPE } from "./http-exchange.js";
import { answer } from "./http-answer.js";
import { HttpServerChannel } from "./http-server-channel.js";
import { statusOf } from "./refusal-status.js";
import { isForeignPage, peerOf } from "./request-peer.js";
import type { Visitors } from "./server.js";

/** What a server bears of HTTP channels. */
export interface HttpChannelsOptions {
  /** Channels that are open at once. Default 256. */
  readonly maxChannels?: number | undefined;
}

export const MAX_HTTP_CHANNELS = 256;

interface Entry {
  readonly channel: HttpServerChannel;
  /** Every request shows what the first one did: a transfer URL that somebody has read in a log is of no use. */
  readonly shown: string;
}

/**
 * The HTTP channels of a server, whatever else it serves.
 * @example
 * // not run: `createModelServer` and `listen` have one; by itself it is for servers of another kind
 * declare const visitors: ConstructorParameters<typeof HttpChannels>[0];
 * const channels = new HttpChannels(visitors, { maxChannels: 16 });
 */
export class HttpChannels {
  readonly #entries = new Map<string, Entry>();
  readonly #maxChannels: number;
  #closed = false;
  #opening = 0;
  #onEmpty: (() => void) | undefined;

  constructor(
    private readonly visitors: Visitors,
    { maxChannels = MAX_HTTP_CHANNELS }: HttpChannelsOptions = {},
  ) {
    this.#maxChannels = maxChannels;
  }

  /** Takes a request if it is one of an HTTP channel. `false`: it is not, and nothing was done with it. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const id = new URLSearchParams(queryOf(request)).get(ID_PARAMETER);
    if (id !== null) {
      const entry = this.#entries.get(id);
      if (entry && sameSecret(entry.shown, shownBy(request))) entry.channel.handle(request, response);
      else refuse(request, response, 404);
      return true;
    }
    if (request.method !== "POST" || request.headers["content-type"] !== MEDIA_TYPE) return false;
    void this.#open(request, response);
    return true;
  }

  /** Takes no new channels. Those that are open go on; resolves when there are none. */
  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      if (this.#entries.size === 0) resolve();
    });
  }

  /** Channels that are open. */
  get size(): number {
    return this.#entries.size;
  }

  async #open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (isForeignPage(request)) return refuse(request, response, 403);
    if (this.#full) return refuse(request, response, 503);
    this.#opening++;
    const peer = peerOf(request);
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    try {
      await this.visitors.admit?.(peer, gone.signal);
    } catch (error) {
      return refuse(request, response, statusOf(asTensorwireError(error, "INTERNAL")));
    } finally {
      this.#opening--;
    }
    if (response.destroyed) return;
    if (this.#full) return refuse(request, response, 503);
    const id = randomBytes(16).toString("hex");
    const channel = new HttpServerChannel(request, peer, () => {
      this.#entries.delete(id);
      if (this.#entries.size === 0) this.#onEmpty?.();
    });
    this.#entries.set(id, { channel, shown: shownBy(request) });
    request.resume();
    // Relative, and nothing but a query: it stays true behind a proxy that changes hosts and paths.
    const query = new URLSearchParams(queryOf(request));
    query.set(ID_PARAMETER, id);
    answer(response, 201, { location: `?${query}` });
    this.visitors.enter(channel);
  }

  get #full(): boolean {
    return this.#closed || this.visitors.full || this.#entries.size + this.#opening >= this.#maxChannels;
  }
}

/** Nothing of the body is read: a stranger's may be endless. */
function refuse(request: IncomingMessage, response: ServerResponse, status: number): void {
  request.on("error", () => {});
  answer(response, status, {
    connection: "close",
    ...(status === 401 && { "www-authenticate": "Bearer" }),
    ...(status === 503 && { "retry-after": 5 }),
  });
}

/** What a request shows for who made it: its credential, and its certificate. */
const shownBy = (request: IncomingMessage): string =>
  JSON.stringify([request.headers.authorization, peerOf(request).subject]);

const queryOf = ({ url = "" }: IncomingMessage): string => url.slice(url.indexOf("?") + 1 || url.length);
