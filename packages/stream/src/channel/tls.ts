import { isIP } from "node:net";
import { connect, createServer } from "node:tls";
import type { Channel } from "@tensorwire/core";
import { type HostAddress, hostAddress, hostUrl } from "./address.js";
import { boundTo, type ChannelServer, type Visitors } from "./server.js";
import { admitSockets, dialSocket, type SocketKind } from "./socket.js";
import { clientTls, serverTls, type TlsOptions } from "./tls-options.js";

const TLS: SocketKind = { kind: "tls", connected: "secureConnect", accepted: "secureConnection" };

/**
 * Dials `tls://host:port`.
 * @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`.
 * @example
 * const listener = await listen({ url: "tls://127.0.0.1:9000", tls });
 * const received = receiveModel(listener, { to: "copy.safetensors" }).done;
 * await streamModel("model.safetensors", await dialTls(listener.url, { ca }));
 * await received;
 */
export async function dialTls(
  url: string,
  options: TlsOptions | undefined,
  signal?: AbortSignal,
): Promise<Channel> {
  const { host, port } = hostAddress(url);
  // The name that the server is asked for by: an address is none.
  const name = isIP(host) ? undefined : host;
  const settings = { servername: name, ...clientTls(options), host, port };
  return dialSocket(url, TLS, () => connect(settings), signal);
}

/** Accepts TLS connections. @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`. */
export async function serveTls(
  address: HostAddress,
  options: TlsOptions | undefined,
  visitors: Visitors,
): Promise<ChannelServer> {
  const server = createServer(serverTls(options));
  const url = hostUrl("tls", await boundTo(server, address));
  // A handshake that fails is the end of its connection, and of nothing else.
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  admitSockets(server, TLS, visitors);
  return { url, close: async () => void server.close() };
}
