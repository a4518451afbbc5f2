import { createServer, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type HostAddress, hostUrl } from "./address.js";
import { boundTo, type ChannelServer, type Visitors } from "./server.js";
import { boundSilence } from "./silent-sockets.js";
import { serverTls, type TlsOptions } from "./tls-options.js";
import { WebSocketUpgrades } from "./websocket-upgrades.js";

const NO_UPGRADE: RequestListener = (_request, response) => {
  response
    .writeHead(426, { Upgrade: "websocket", Connection: "close" })
    .end("This is a WebSocket endpoint.\n");
};

/** Accepts WebSockets, with TLS where there are options for it. @throws TensorwireError `INVALID_ARGUMENT`, `CHANNEL_OPEN`. */
export async function serveWebSocket(
  address: HostAddress,
  tls: TlsOptions | undefined,
  visitors: Visitors,
): Promise<ChannelServer> {
  const server = tls ? createSecureServer(serverTls(tls), NO_UPGRADE) : createServer(NO_UPGRADE);
  boundSilence(server);
  const upgrades = new WebSocketUpgrades(visitors);
  server.on("upgrade", (request, socket, head) => void upgrades.handle(request, socket, head));
  const url = hostUrl(tls ? "wss" : "ws", await boundTo(server, address));
  const close = async (): Promise<void> => {
    upgrades.close();
    server.close();
    server.closeIdleConnections();
  };
  return { url, close };
}
