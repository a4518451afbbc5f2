import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { ChannelPeer } from "@tensorwire/core";
import { isLoopback } from "./address.js";

/** Headers of what has come through somebody else's hands. */
const FORWARDED = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/** Who made a request, as far as it tells. */
export function peerOf(request: IncomingMessage): ChannelPeer {
  const { socket, headers } = request;
  const [path] = (request.url ?? "").split("?", 1);
  const bearer = /^Bearer +(\S+)$/i.exec(headers.authorization ?? "");
  const subject = subjectOf(socket);
  return {
    address: `${socket.remoteAddress}:${socket.remotePort}`,
    ...(bearer && { credential: bearer[1]! }),
    ...(subject !== undefined && { subject }),
    ...(path && { path }),
    private: isPrivate(request),
  };
}

/** The name in a peer's certificate, where TLS has verified one. */
export function subjectOf(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === "string" ? name : undefined;
}

/** Of what a proxy on this machine hands on, only the proxy knows how it came. */
function isPrivate({ socket, headers }: IncomingMessage): boolean {
  if (socket instanceof TLSSocket) return true;
  const local = isLoopback((socket.remoteAddress ?? "").replace(/^::ffff:/i, ""));
  if (!FORWARDED.some((name) => headers[name] !== undefined)) return local;
  return local && headers["x-forwarded-proto"] === "https";
}
