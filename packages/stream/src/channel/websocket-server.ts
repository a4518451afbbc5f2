import { createServer, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { WebSocketServer } from "ws";
import { type HostAddress, hostUrl } from "./address.js";
import { peerOf } from "./request-peer.js";
import { boundTo, type ChannelServer, type Visitors } from "./server.js";
import { serverTls, type TlsOptions } from "./tls-options.js";
import { MAX_PAYLOAD, webSocketChannel } from "./websocket.js";

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
  const url = hostUrl(tls ? "wss" : "ws", await boundTo(server, address));
  const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: MAX_PAYLOAD });
  sockets.on("connection", (socket, request) => {
    socket.on("error", () => {});
    if (visitors.full) socket.terminate();
    else visitors.enter(webSocketChannel(socket, { under: request.socket, peer: peerOf(request) }));
  });
  const close = async (): Promise<void> => {
    sockets.close();
    server.close();
    server.closeIdleConnections();
  };
  return { url, close };
}
