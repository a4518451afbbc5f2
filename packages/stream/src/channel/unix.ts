import { connect, createServer } from "node:net";
import type { Channel } from "@tensorwire/core";
import { socketPath, socketUrl } from "./address.js";
import { bindPrivately } from "./private-socket.js";
import type { ChannelServer, Visitors } from "./server.js";
import { admitSockets, dialSocket, type SocketKind } from "./socket.js";

const UNIX: SocketKind = { kind: "unix", connected: "connect", accepted: "connection" };

/**
 * Dials `unix:/path.sock`.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 * @example
 * const listener = await listen({ url: "unix:/tmp/model.sock" });
 * const received = receiveModel(listener, { to: "copy.safetensors" }).done;
 * await streamModel("model.safetensors", await dialUnix(listener.url));
 * await received;
 */
export async function dialUnix(url: string, signal?: AbortSignal): Promise<Channel> {
  const path = socketPath(url);
  return dialSocket(url, UNIX, () => connect(path), signal);
}

/**
 * Accepts connections to a Unix socket that only its owner may connect to.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 */
export async function serveUnix(at: string, visitors: Visitors): Promise<ChannelServer> {
  const server = createServer();
  const { path, close } = await bindPrivately(server, at);
  admitSockets(server, UNIX, visitors);
  return { url: socketUrl(path), close };
}
