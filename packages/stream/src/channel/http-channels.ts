import type { IncomingMessage, ServerResponse } from "node:http";
import type { ChannelPeer } from "@tensorwire/core";
import type { Visitors } from "./server.js";

/** Whom HTTP channels are given to. */
export interface HttpVisitors extends Visitors {
  /**
   * Looks at who comes before anything is taken from it; what it throws is the answer: `UNAUTHORIZED` is status 401,
   * `FORBIDDEN` 403, `NOT_FOUND` 404, `SERVER_BUSY` 503. Default: everybody may enter.
   */
  admit?(peer: ChannelPeer): void | Promise<void>;
}

export interface HttpChannelsOptions {
  /** Channels that are open at once. Default 256. */
  readonly maxChannels?: number | undefined;
}

/** The HTTP channels of a server, whatever else it serves. */
export class HttpChannels {
  constructor(
    readonly visitors: HttpVisitors,
    readonly options: HttpChannelsOptions = {},
  ) {}

  /** Takes a request if it is one of an HTTP channel. `false`: it is not, and nothing was done with it. */
  handle(_request: IncomingMessage, _response: ServerResponse): boolean {
    return false;
  }

  /** Takes no new channels. Those that are open go on. */
  close(): void {}
}
