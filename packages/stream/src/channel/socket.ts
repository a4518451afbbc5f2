import type { Server, Socket } from "node:net";
import { type Channel, TensorwireError } from "@tensorwire/core";
import { dialFault } from "./dial-fault.js";
import { ownSocketChannel } from "./duplex.js";
import { refusalBytes } from "../door/turning-away.js";
import { socketPeer, UNIX_PEER } from "./peer.js";
import type { Visitors } from "./server.js";

/** What sockets of one kind have in common, whichever end has them. */
export interface SocketKind {
  readonly kind: "tcp" | "tls" | "unix";
  /** The event of a socket that dials, when it may be used. */
  readonly connected: "connect" | "secureConnect";
  /** The event of a server that has another one. */
  readonly accepted: "connection" | "secureConnection";
}

/** A socket that connects, as a channel once it has. @throws TensorwireError `CHANNEL_OPEN`; what `signal` was aborted with. */
export async function dialSocket(
  url: string,
  { kind, connected }: SocketKind,
  start: () => Socket,
  signal: AbortSignal | undefined,
): Promise<Channel> {
  signal?.throwIfAborted();
  const socket = start();
  let onAbort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => reject(signal!.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      socket.once(connected, resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the peer closed the connection")));
    });
  } catch (cause) {
    socket.on("error", () => {});
    socket.destroy();
    if (signal?.aborted) throw cause;
    throw dialFault(url, cause);
  } finally {
    signal?.removeEventListener("abort", onAbort!);
  }
  return socketChannel(socket, kind);
}

/** Lets the sockets that a server accepts in, as channels. */
export function admitSockets(server: Server, { kind, accepted }: SocketKind, visitors: Visitors): void {
  server.on(accepted, (socket: Socket) => {
    if (!visitors.full) return visitors.enter(socketChannel(socket, kind));
    socket.on("error", () => {});
    for (const bytes of refusalBytes(busy())) socket.write(bytes);
    socket.destroySoon();
  });
}

function socketChannel(socket: Socket, kind: string): Channel {
  // Credit is a few bytes that the peer waits for: not to be held back until there are more.
  socket.setNoDelay(true);
  return ownSocketChannel(socket, kind, kind === "unix" ? { ...UNIX_PEER } : socketPeer(socket));
}

const busy = (): TensorwireError =>
  new TensorwireError("SERVER_BUSY", "too many connections at the moment: try again later");
