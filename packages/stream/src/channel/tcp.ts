import { connect, createServer } from "node:net";
import type { Channel } from "@tensorwire/core";
import { type HostAddress, hostAddress, hostUrl } from "./address.js";
import { boundTo, type ChannelServer, type Visitors } from "./server.js";
import { admitSockets, dialSocket, type SocketKind } from "./socket.js";

const TCP: SocketKind = { kind: "tcp", connected: "connect", accepted: "connection" };

/**
 * Dials `tcp://host:port`.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 * @example
 * const listener = await listen({ url: "tcp://127.0.0.1:9000" });
 * const received = receiveModel(listener, { to: "copy.safetensors" }).done;
 * await streamModel("model.safetensors", await dialTcp(listener.url));
 * await received;
 */
export async function dialTcp(url: string, signal?: AbortSignal): Promise<Channel> {
  const { host, port } = hostAddress(url);
  return dialSocket(url, TCP, () => connect(port, host), signal);
}

/** Accepts TCP connections. @throws TensorwireError `CHANNEL_OPEN`. */
export async function serveTcp(address: HostAddress, visitors: Visitors): Promise<ChannelServer> {
  const server = createServer();
  const url = hostUrl("tcp", await boundTo(server, address));
  admitSockets(server, TCP, visitors);
  return { url, close: async () => void server.close() };
}
