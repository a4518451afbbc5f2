import { type IncomingMessage, type Server as HttpServer, ServerResponse } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

export type WebServer = HttpServer | HttpsServer;

/** What is answered here. */
export interface Routes {
  /** Whether a request is for these routes; everything else is left to whoever else answers, untouched. */
  owns(request: IncomingMessage): boolean;
  request(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

/**
 * Puts routes before those that a server has and will have. Its listeners, their order and their number stay as they are:
 * they are not asked about what the routes own, and asked about everything else as before.
 * @returns what takes the routes away again.
 */
export function mount(server: WebServer, routes: Routes): () => void {
  const emit = server.emit;
  let mounted = true;
  const routed = function (this: WebServer, event: string, ...args: unknown[]): boolean {
    return (
      (mounted && taken(server, routes, event, args)) ||
      emit.apply(this, [event, ...args] as unknown as Parameters<typeof emit>)
    );
  } as typeof emit;
  // Node takes a request to upgrade for a plain one where nobody listens for it.
  const listening = (): void => {};
  server.on("upgrade", listening);
  server.emit = routed;
  return () => {
    mounted = false;
    server.off("upgrade", listening);
    // Somebody may have done the same after us.
    if (server.emit === routed) server.emit = emit;
  };
}

function taken(server: WebServer, routes: Routes, event: string, args: unknown[]): boolean {
  if (event !== "request" && event !== "checkContinue" && event !== "upgrade") return false;
  const request = args[0] as IncomingMessage;
  if (event === "upgrade") {
    const [, socket, head] = args as [IncomingMessage, Socket, Buffer];
    if (routes.owns(request)) routes.upgrade(request, socket, head);
    // The one listener is ours: without it, this would have been a request.
    else if (server.listenerCount("upgrade") === 1) answerAsRequest(server, request, socket);
    else return false;
    return true;
  }
  if (!routes.owns(request)) return false;
  const response = args[1] as ServerResponse;
  if (event === "checkContinue") response.writeContinue();
  routes.request(request, response);
  return true;
}

/** What Node does with a request to upgrade where nobody upgrades. */
function answerAsRequest(server: WebServer, request: IncomingMessage, socket: Socket): void {
  socket.on("error", () => {});
  const { "content-length": length = "0", "transfer-encoding": encoding } = request.headers;
  if (Number(length) > 0 || encoding !== undefined) {
    // Its body is in nobody's hands any more.
    socket.end("HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n");
    return socket.destroySoon();
  }
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.on("finish", () => {
    response.detachSocket(socket);
    socket.destroySoon();
  });
  server.emit("request", request, response);
}
