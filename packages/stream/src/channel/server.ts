import type { AddressInfo, Server } from "node:net";
import { type Channel, type ChannelPeer, TensorwireError } from "@tensorwire/core";
import type { HostAddress } from "./address.js";

/** Whom a server gives its connections to. */
export interface Visitors {
  /** No more are taken at the moment: one that comes is turned away. */
  readonly full: boolean;
  /**
   * Looks at who comes before anything is taken from it, where the channel has headers; what it throws is the answer:
   * `UNAUTHORIZED` is status 401, `FORBIDDEN` 403, `NOT_FOUND` 404, `SERVER_BUSY` 503. Default: everybody may enter. The
   * channel that enters then has this very `peer`.
   * @param gone Aborts when the peer has left.
   */
  admit?(peer: ChannelPeer, gone?: AbortSignal): void | Promise<void>;
  /** Takes a channel that nobody has opened yet. */
  enter(channel: Channel): void;
}

/** Accepts connections of one kind, each of them a channel. One file a kind. */
export interface ChannelServer {
  /** What peers dial. */
  readonly url: string;
  /** Accepts no more, and leaves its place to others. What it has accepted goes on. */
  close(): Promise<void>;
}

/**
 * Binds a server to where `bind` says. An error later, of a connection that is being accepted, is none of the others'.
 * @throws TensorwireError `CHANNEL_OPEN`.
 */
export async function bound(server: Server, where: string, bind: (done: () => void) => void): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.on("error", reject);
      bind(resolve);
    });
  } catch (cause) {
    throw new TensorwireError("CHANNEL_OPEN", `cannot listen on ${where}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Binds a server to a host and a port, and says which. @throws TensorwireError `CHANNEL_OPEN`. */
export async function boundTo(server: Server, { host, port }: HostAddress): Promise<HostAddress> {
  await bound(server, `${host}:${port}`, (done) => server.listen(port, host, done));
  const { address, port: taken } = server.address() as AddressInfo;
  return { host: address, port: taken };
}
