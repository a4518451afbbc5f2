import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { ChannelPeer } from "@tensorwire/core";
import { tokenOfHeader } from "../door/credential.js";
import { isLoopback } from "./address.js";
import { hostOf, socketPeer } from "./peer.js";

/** Headers of what has come through somebody else's hands. */
const FORWARDED = [
  "forwarded",
  "via",
  "x-forwarded-for",
  "x-real-ip",
  "x-forwarded-host",
  "x-forwarded-proto",
];

/** Who made a request, as far as it tells. */
export function peerOf(request: IncomingMessage): ChannelPeer {
  const { socket, headers, url = "" } = request;
  const peer = socketPeer(socket);
  const query = /\?([^#]*)/.exec(url)?.[1];
  return {
    ...peer,
    credential: tokenOfHeader(headers.authorization),
    path: /^[^?#]*/.exec(url)![0],
    ...(query && { query }),
    ...(isForwarded(request) && { forwarded: true }),
    private: peer.private && isPrivate(request),
  };
}

const isForwarded = ({ headers }: IncomingMessage): boolean =>
  FORWARDED.some((name) => headers[name] !== undefined);

/** Of what a proxy on this machine hands on, only the proxy knows how it came. */
function isPrivate(request: IncomingMessage): boolean {
  if (request.socket instanceof TLSSocket || !isForwarded(request)) return true;
  return request.headers["x-forwarded-proto"] === "https";
}

/**
 * Whether a web page of another site made a browser ask: browsers let pages open WebSockets to any place, this machine's own
 * among them, and say only in `Origin` whose page it was. On loopback a name counts for nothing: anybody's can lead there.
 */
export function isForeignPage(request: IncomingMessage): boolean {
  const { origin, host = "" } = request.headers;
  if (origin === undefined) return false;
  const page = URL.canParse(origin) ? new URL(origin) : undefined;
  if (!page?.host || page.host !== host.toLowerCase()) return true;
  return (
    isLoopback(hostOf(socketPeer(request.socket))) && !isForwarded(request) && !isLoopback(page.hostname)
  );
}

/**
 * Whether a browser was led here by somebody's name for this machine's loopback: to the browser that page and ours are of one
 * site, so that it would let that page read ours.
 */
export function isForeignHost(request: IncomingMessage): boolean {
  const { host = "" } = request.headers;
  if (!isLoopback(hostOf(socketPeer(request.socket))) || isForwarded(request)) return false;
  const asked = `http://${host}`;
  return !URL.canParse(asked) || !isLoopback(new URL(asked).hostname);
}
