import { quote, TensorwireError } from "@tensorwire/core";
import { listen } from "../channel/listen.js";
import type { Endpoint } from "../channel/open.js";
import type { Flags } from "./flags.js";
import type { Output } from "./output.js";

type Role = "send" | "receive";

/** Where the peer is, as the command line says. */
export interface PeerEndpoint {
  readonly endpoint: Endpoint;
  /** Nobody is told how it went: a pipe, a web server. */
  readonly oneWay: boolean;
  close(): Promise<void>;
}

/** Opens what stands for the peer: a URL, `-` for the process's own pipe, or `--listen`. Exactly one of them. */
export async function openPeer(
  peer: string | undefined,
  role: Role,
  { listen: address, insecure }: Flags,
  output: Output,
): Promise<PeerEndpoint> {
  const close = async (): Promise<void> => {};
  if ((peer === undefined) === (address === undefined)) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "say where the peer is: a URL, or - for a pipe, or --listen <host:port>",
    );
  }
  if (address !== undefined) {
    const listener = await listen({ ...parseAddress(address), insecure });
    output.note(`tensorwire: listening on ${listener.url}`);
    return { endpoint: listener, oneWay: false, close: () => listener.close() };
  }
  if (peer === "-") return { endpoint: pipe(role), oneWay: true, close };
  const url = checkUrl(peer!, role);
  return { endpoint: url, oneWay: /^http/i.test(url), close };
}

function pipe(role: Role): Endpoint {
  const stream = role === "send" ? process.stdout : process.stdin;
  if (stream.isTTY) {
    const [name, example] =
      role === "send" ? ["stdout", "send model - | …"] : ["stdin", "… | tensorwire receive -"];
    throw new TensorwireError("INVALID_ARGUMENT", `${name} is a terminal, not a pipe: ${example}`);
  }
  // One direction, also where it is a socket and could do both.
  return role === "send" ? { writable: process.stdout } : { readable: process.stdin };
}

function checkUrl(url: string, role: Role): string {
  const schemes = role === "send" ? /^wss?:\/\//i : /^(ws|http)s?:\/\//i;
  // A fragment says nothing to a server, and WebSockets do not take one.
  if (schemes.test(url) && URL.canParse(url) && !url.includes("#")) return url;
  const expected = role === "send" ? "ws:// or wss:// URL" : "ws://, wss://, http:// or https:// URL";
  const file = role === "send" ? "write an artifact with pack" : "read an artifact with unpack";
  throw new TensorwireError("INVALID_ARGUMENT", `${quote(url)} is no ${expected}; ${file}`);
}

/** `host:port`, `:port`, `port` or `[ipv6]:port`. */
function parseAddress(address: string): { host?: string; port: number } {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(address);
  const port = Number(match?.[2] ?? Number.NaN);
  if (match && port <= 65535) return { port, ...(match[1] && { host: match[1] }) };
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `--listen takes host:port, such as 127.0.0.1:9000, not ${quote(address)}`,
  );
}
