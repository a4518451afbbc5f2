import { isIP } from "node:net";
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { quote, TensorwireError } from "@tensorwire/core";

/** A host and a port, as sockets take them. */
export interface HostAddress {
  readonly host: string;
  readonly port: number;
}

/** What the system's address of a Unix socket holds, without the zero that ends it. */
export const MAX_SOCKET_PATH_BYTES = process.platform === "linux" ? 107 : 103;

// Of some schemes a URL does not keep the port that is usual for them.
const USUAL_PORTS: Readonly<Record<string, number>> = { "ws:": 80, "wss:": 443, "http:": 80, "https:": 443 };

/** The address in `tcp://host:port`, and in what looks like it. @throws TensorwireError `INVALID_ARGUMENT`. */
export function hostAddress(url: string): HostAddress {
  const at = parsed(url);
  const { hostname, pathname, search, hash, username, password } = at;
  const port = at.port || USUAL_PORTS[at.protocol];
  const rest = `${pathname.replace(/^\/$/, "")}${search}${hash}${username}${password}`;
  if (!hostname || port === undefined || rest) {
    const scheme = url.slice(0, url.indexOf(":"));
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(shownUrl(url))} is not of the form ${scheme}://host:port`,
    );
  }
  return { host: withoutBrackets(hostname), port: Number(port) };
}

/** The path in `unix:/path.sock`. @throws TensorwireError `INVALID_ARGUMENT`. */
export function socketPath(url: string): string {
  const { host, pathname, search, hash } = parsed(url);
  if (host || search || hash || !pathname.startsWith("/")) {
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(shownUrl(url))} is not of the form unix:/path.sock`,
    );
  }
  try {
    return checkSocketPath(fileURLToPath(`file://${pathname}`));
  } catch (cause) {
    if (cause instanceof TensorwireError) throw cause;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(shownUrl(url))}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** The path, absolute. Systems cut one that is too long, or take it for something else. @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkSocketPath(path: string): string {
  const absolute = resolve(path);
  const bytes = Buffer.byteLength(absolute);
  if (path && !path.includes("\0") && bytes <= MAX_SOCKET_PATH_BYTES) return absolute;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} cannot be the path of a Unix socket: those have 1 to ${MAX_SOCKET_PATH_BYTES} bytes, and no zero byte; this has ${bytes}, absolute`,
  );
}

/** What peers dial, of an address that is bound. */
export function hostUrl(scheme: string, { host, port }: HostAddress): string {
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** What peers of a Unix socket dial. */
export function socketUrl(path: string): string {
  return `unix:${pathToFileURL(path).pathname}`;
}

/** A URL for messages: without what is in it of credentials, or may be. */
export function shownUrl(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, "$1").replace(/\?[^#]*/, "?…");
}

/** Without a cause: the system's error holds the whole URL. */
export function noUrl(url: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", `${quote(shownUrl(url))} is no URL`);
}

/** Whether a host's name or address is this machine's loopback. */
export function isLoopback(host: string): boolean {
  const bare = withoutBrackets(host);
  if (bare === "localhost" || bare === "::1") return true;
  return isIP(bare) === 4 && bare.startsWith("127.");
}

export const withoutBrackets = (host: string): string => host.replace(/^\[|\]$/g, "");

function parsed(url: string): URL {
  try {
    return new URL(url);
  } catch {
    throw noUrl(url);
  }
}
