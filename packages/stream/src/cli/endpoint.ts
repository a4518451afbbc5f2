import { readFile } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { shownUrl } from "../channel/address.js";
import { listen } from "../channel/listen.js";
import type { ListenOptions } from "../channel/listening-place.js";
import type { Endpoint } from "../channel/endpoint.js";
import type { TlsOptions } from "../channel/tls-options.js";
import { bearerTokens } from "../door/bearer-tokens.js";
import type { Flags } from "./flags.js";
import type { Output } from "./output.js";
import { readToken } from "./token.js";

type Role = "send" | "receive";

/** Where the peer is, as the command line says. */
export interface PeerEndpoint {
  readonly endpoint: Endpoint;
  /** For the call that dials it. */
  readonly dial?: {
    readonly tls: TlsOptions | undefined;
    readonly token: string | undefined;
    readonly waitMs: number | undefined;
  };
  /** Nobody is told how it went: a pipe, a web server. */
  readonly oneWay: boolean;
  close(): Promise<void>;
}

/** Opens what stands for the peer: a URL, `-` for the process's own pipe, or `--listen`. Exactly one of them. */
export async function openPeer(
  peer: string | undefined,
  role: Role,
  flags: Flags,
  output: Output,
): Promise<PeerEndpoint> {
  const { listen: address } = flags;
  const close = async (): Promise<void> => {};
  if ((peer === undefined) === (address === undefined)) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "say where the peer is: a URL, or - for a pipe, or --listen <where>",
    );
  }
  if (address !== undefined) {
    const listener = await listen(await listeningOptions(flags, address));
    output.note(`tensorwire: listening on ${listener.url}`);
    return { endpoint: listener, oneWay: false, close: () => listener.close() };
  }
  if (peer === "-") return { endpoint: pipe(role), oneWay: true, close };
  const url = checkUrl(peer!, role);
  const { wait: waitMs, tokenFile } = flags;
  const dial = { tls: await tlsOptions(flags), token: await readToken(tokenFile), waitMs };
  // What a web server gives may be a file, which it does not ask after.
  return { endpoint: url, dial, oneWay: role === "receive" && /^http/i.test(url), close };
}

/** Where to wait for peers, and for whom, as the flags have it. */
export async function listeningOptions(flags: Flags, address: string): Promise<ListenOptions> {
  const { insecure, tokens, idleTimeout: idleTimeoutMs } = flags;
  const authorize = tokens === undefined ? undefined : await bearerTokens(tokens);
  return { ...parseAddress(address), tls: await tlsOptions(flags), insecure, authorize, idleTimeoutMs };
}

/** TLS as the flags have it, which name files. */
export async function tlsOptions(flags: Flags): Promise<TlsOptions | undefined> {
  const { tlsCa, tlsCert, tlsKey, tlsServername: servername } = flags;
  if ([tlsCa, tlsCert, tlsKey, servername].every((flag) => flag === undefined)) return undefined;
  const [ca, cert, key] = await Promise.all([
    readPem(tlsCa, "--tls-ca"),
    readPem(tlsCert, "--tls-cert"),
    readPem(tlsKey, "--tls-key"),
  ]);
  return { ca, cert, key, servername };
}

async function readPem(path: string | undefined, flag: string): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "latin1");
  } catch (cause) {
    const message = `${flag} ${quote(path)} cannot be read: ${(cause as Error).message}`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { cause });
  }
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
  if (/^unix:\//i.test(url)) return url;
  const schemes = /^(wss?|https?|tcp|tls):\/\//i;
  // A fragment says nothing to a server, and WebSockets do not take one.
  if (schemes.test(url) && URL.canParse(url) && !url.includes("#")) return url;
  const file = role === "send" ? "write an artifact with pack" : "read an artifact with unpack";
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(shownUrl(url))} is no URL of ws://, wss://, http://, https://, tcp://, tls:// or unix:/; ${file}`,
  );
}

/** `host:port`, `:port`, `port` or `[ipv6]:port` for WebSockets; or a URL. */
function parseAddress(address: string): Pick<ListenOptions, "url" | "host" | "port"> {
  if (/^(unix:|[a-z]+:\/\/)/i.test(address)) return { url: address };
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(address);
  const port = Number(match?.[2] ?? Number.NaN);
  if (match && port <= 65535) return { port, ...(match[1] && { host: match[1] }) };
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `--listen takes host:port, such as 127.0.0.1:9000, or a URL of ws:, wss:, http:, https:, tcp:, tls: or unix:, not ${quote(shownUrl(address))}`,
  );
}
