import { createServer, type RequestListener } from "node:http";
import { quote, TensorwireError } from "@tensorwire/core";
import { isLoopback, socketUrl, withoutBrackets } from "../channel/address.js";
import { hostUrl } from "../channel/address.js";
import { bindPrivately } from "../channel/private-socket.js";
import { boundTo } from "../channel/server.js";
import { boundSilence } from "../channel/silent-sockets.js";

/** Where programs of this machine reach the agent. */
export type LocalPlace = { readonly socket: string } | { readonly host: string; readonly port: number };

export interface LocalServer {
  /** `unix:/path.sock` or `http://127.0.0.1:port`. */
  readonly url: string;
  close(): Promise<void>;
}

/** @throws TensorwireError `INVALID_ARGUMENT` for an address off loopback, `CHANNEL_OPEN`. */
export async function localServer(place: LocalPlace, answer: RequestListener): Promise<LocalServer> {
  if (!("socket" in place) && !isLoopback(place.host)) {
    const message = `${quote(place.host)} is not this machine: the local interface is a Unix socket, or on loopback, and has no TLS`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }
  const server = createServer(answer);
  // A model's body takes as long as it takes.
  server.requestTimeout = 0;
  const ended = async (): Promise<void> => {
    server.closeAllConnections();
  };
  if ("socket" in place) {
    const socket = await bindPrivately(server, place.socket);
    const close = (): Promise<void> => socket.close().then(ended);
    return { url: socketUrl(socket.path), close };
  }
  boundSilence(server);
  const url = hostUrl("http", await boundTo(server, { host: withoutBrackets(place.host), port: place.port }));
  const close = async (): Promise<void> => {
    server.close();
    await ended();
  };
  return { url, close };
}
