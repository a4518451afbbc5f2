import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";

/** So many connections may be open on which no request has come yet. */
export const MAX_SILENT = 1024;

/**
 * Keeps those who connect, and ask for nothing, from filling a web server: one more than there may be, and the oldest goes. A
 * peer that means business asks at once, and is never among the oldest.
 */
export function boundSilence(server: HttpServer | HttpsServer, most = MAX_SILENT): void {
  // By their addresses: under TLS the socket that connects is not the one that asks.
  const silent = new Map<string, Socket>();
  server.on("connection", (socket: Socket) => {
    const key = addressOf(socket);
    silent.set(key, socket);
    socket.once("close", () => {
      if (silent.get(key) === socket) silent.delete(key);
    });
    if (silent.size <= most) return;
    const [oldest] = silent;
    silent.delete(oldest![0]);
    oldest![1].destroy();
  });
  const heard = ({ socket }: IncomingMessage): boolean => silent.delete(addressOf(socket));
  server.prependListener("request", heard);
  server.prependListener("upgrade", heard);
}

const addressOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
