import { quote, TensorwireError } from "@tensorwire/core";
import {
  checkSocketPath,
  type HostAddress,
  hostAddress,
  isLoopback,
  socketPath,
  withoutBrackets,
} from "./address.js";
import { isMutual, type TlsOptions } from "./tls-options.js";

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
  /**
   * Without credentials a listener binds loopback only: this takes any peer of the network. Where peers need a
   * certificate of `tls.ca`, that is their credential. Default false.
   */
  readonly insecure?: boolean | undefined;
}

/** Where to listen, and for what. */
export type ListeningPlace =
  | { readonly scheme: "ws" | "wss" | "http" | "https" | "tcp" | "tls"; readonly address: HostAddress }
  | { readonly scheme: "unix"; readonly path: string };

/** @throws TensorwireError `INVALID_ARGUMENT`, also for an address off loopback that nothing guards. */
export function listeningPlace(options: ListenOptions): ListeningPlace {
  const place = placeOf(options);
  const { tls, insecure = false } = options;
  const encrypted = ["wss", "https", "tls"].includes(place.scheme);
  if (tls && !encrypted) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `tls is for wss:, https: and tls:, and ${place.scheme}: has none`,
    );
  }
  if (place.scheme === "unix" || insecure || isLoopback(place.address.host)) return place;
  if (encrypted && isMutual(tls)) return place;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `listening on ${place.address.host} would take any peer that reaches it, without credentials: listen on 127.0.0.1, ask peers for a certificate (tls.ca, --tls-ca), or say insecure (--insecure)`,
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
        `${quote(url)}: ws:, wss:, http:, https:, tcp:, tls: and unix: URLs can be listened on`,
      );
  }
}
