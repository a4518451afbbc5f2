import { quote, TensorwireError } from "@tensorwire/core";
import type { Authorize } from "../door/principal.js";
import {
  checkSocketPath,
  type HostAddress,
  hostAddress,
  isLoopback,
  shownUrl,
  socketPath,
  withoutBrackets,
} from "./address.js";
import { isMutual, type TlsOptions } from "./tls-options.js";

/** Where to listen, and who may come. */
export interface ListenOptions {
  /**
   * `ws://host:port`, `wss:`, `http:`, `https:`, `tcp:`, `tls:`, or `unix:/path.sock`: instead of `host` and `port`, or `path`. Port 0 is any
   * free one.
   */
  readonly url?: string | URL | undefined;
  /** For WebSockets. Default 127.0.0.1. */
  readonly host?: string | undefined;
  /** For WebSockets. Default 0: any free port. */
  readonly port?: number | undefined;
  /** The path of a Unix socket. */
  readonly path?: string | undefined;
  /** Certificate and key for `wss:`, `https:` and `tls:`; with `ca`, peers need a certificate too. */
  readonly tls?: TlsOptions | undefined;
  /** Says who a peer is, before anything else of it is believed, or refuses it. Default: any peer that reaches the place. */
  readonly authorize?: Authorize | undefined;
  /**
   * Off loopback a listener takes peers that show a credential on an encrypted channel: a certificate of `tls.ca`, or what
   * `authorize` asks for. This takes others too: without a credential, or with one that anybody between can read. Default
   * false.
   */
  readonly insecure?: boolean | undefined;
  /**
   * A connection that waits to be taken, and on which nothing has come for so many milliseconds, loses its place: whoever
   * dials says HELLO at once. Default 120,000; 0 turns it off. Once it is taken, the options of the transfer hold.
   */
  readonly idleTimeoutMs?: number | undefined;
}

/** Where to listen, and for what. */
export type ListeningPlace =
  | { readonly scheme: "ws" | "wss" | "http" | "https" | "tcp" | "tls"; readonly address: HostAddress }
  | { readonly scheme: "unix"; readonly path: string };

/** @throws TensorwireError `INVALID_ARGUMENT`, also for an address off loopback that nothing guards. */
export function listeningPlace(options: ListenOptions): ListeningPlace {
  const place = placeOf(options);
  const { tls, authorize, insecure = false } = options;
  const encrypted = ["wss", "https", "tls"].includes(place.scheme);
  if (tls && !encrypted) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `tls is for wss:, https: and tls:, and ${place.scheme}: has none`,
    );
  }
  if (place.scheme === "unix" || insecure || isLoopback(place.address.host)) return place;
  if (encrypted && (authorize || isMutual(tls))) return place;
  const why = authorize
    ? "would take credentials in clear text, for anybody between to read: listen with TLS (wss:, https:, tls:)"
    : "would take any peer that reaches it, without credentials: ask peers for a certificate (tls.ca, --tls-ca) or a token (authorize, --tokens)";
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `listening on ${place.address.host} ${why}, listen on 127.0.0.1, or say insecure (--insecure)`,
  );
}

function placeOf({ url, host, port, path, tls }: ListenOptions): ListeningPlace {
  const given = [url, host ?? port, path].filter((each) => each !== undefined);
  if (given.length > 1) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      "listen takes a url, a path, or a host and port: one of them",
    );
  }
  if (url !== undefined) return placeOfUrl(String(url));
  if (path !== undefined) return { scheme: "unix", path: checkSocketPath(path) };
  const address = { host: withoutBrackets(host ?? "127.0.0.1"), port: port ?? 0 };
  return { scheme: tls ? "wss" : "ws", address };
}

function placeOfUrl(url: string): ListeningPlace {
  const scheme = /^([a-z]+):/i.exec(url)?.[1]?.toLowerCase();
  switch (scheme) {
    case "ws":
    case "wss":
    case "http":
    case "https":
    case "tcp":
    case "tls":
      return { scheme, address: hostAddress(url) };
    case "unix":
      return { scheme, path: socketPath(url) };
    default:
      throw new TensorwireError(
        "INVALID_ARGUMENT",
        `${quote(shownUrl(url))}: ws:, wss:, http:, https:, tcp:, tls: and unix: URLs can be listened on`,
      );
  }
}
