import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { ChannelPeer } from "@tensorwire/core";
import { tokenOfHeader } from "../door/credential.js";
import { socketPeer } from "./peer.js";

/** Headers of what has come through somebody else's hands. */
const FORWARDED = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/** Who made a request, as far as it tells. */
export function peerOf(request: IncomingMessage): ChannelPeer {
  const { socket, headers, url = "" } = request;
  const peer = socketPeer(socket);
  return {
    ...peer,
    credential: tokenOfHeader(headers.authorization),
    path: /^[^?#]*/.exec(url)![0],
    private: peer.private && isPrivate(request),
  };
}

/** Of what a proxy on this machine hands on, only the proxy knows how it came. */
function isPrivate({ socket, headers }: IncomingMessage): boolean {
  if (socket instanceof TLSSocket || !FORWARDED.some((name) => headers[name] !== undefined)) return true;
  return headers["x-forwarded-proto"] === "https";
}
