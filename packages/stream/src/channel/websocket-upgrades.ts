import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { WebSocketServer } from "ws";
import { isForeignPage, peerOf } from "./request-peer.js";
import { statusOf } from "./refusal-status.js";
import type { Visitors } from "./server.js";
import { MAX_PAYLOAD, webSocketChannel } from "./websocket.js";

/** Makes channels of requests to become a WebSocket. Who may not enter is told so before there is one. */
export class WebSocketUpgrades {
  readonly #sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD,
  });

  constructor(private readonly visitors: Visitors) {}

  /** For the event `upgrade` of a server. What the peer sends meanwhile stays in the socket, which is not read. */
  async handle(request: IncomingMessage, stream: Duplex, head: Buffer): Promise<void> {
    const socket = stream as Socket;
    const peer = peerOf(request);
    const gone = new AbortController();
    const onClose = (): void => gone.abort();
    socket.on("error", onClose);
    socket.once("close", onClose);
    try {
      if (isForeignPage(request))
        throw new TensorwireError("FORBIDDEN", "pages of other sites are not taken");
      if (this.visitors.full) throw busy();
      await this.visitors.admit?.(peer, gone.signal);
      if (this.visitors.full) throw busy();
    } catch (error) {
      return refuse(socket, asTensorwireError(error, "INTERNAL"));
    } finally {
      socket.off("close", onClose);
    }
    this.#sockets.handleUpgrade(request, socket, head, (opened) => {
      opened.on("error", () => {});
      this.visitors.enter(webSocketChannel(opened, { under: socket, peer, side: "server" }));
    });
  }

  /** Makes no more channels. Those that are open go on. */
  close(): void {
    this.#sockets.close();
  }
}

function refuse(socket: Socket, error: TensorwireError): void {
  const status = statusOf(error);
  const words = `${error.message}\n`;
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Connection: close",
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(words)}`,
    ...(status === 401 ? ["WWW-Authenticate: Bearer"] : []),
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${words}`);
  socket.destroySoon();
}

const busy = (): TensorwireError =>
  new TensorwireError("SERVER_BUSY", "too many connections at the moment: try again later");
