import type { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import { type Channel, quote, TensorwireError } from "@tensorwire/core";
import type WebSocket from "ws";
import type { TransferOptions } from "../options.js";
import type { Connection } from "../session/connection.js";
import { noUrl, shownUrl } from "./address.js";
import type { StreamPair } from "./duplex.js";
import { Listener } from "./listen.js";
import type { WebStreamPair } from "./web-streams.js";

/** Where a model goes to, or comes from. */
export type Endpoint =
  | string
  | URL
  | WebSocket
  | Duplex
  | StreamPair
  | WebStreamPair
  | Channel
  | Listener
  | ChannelEnd
  | Connection;

/** A channel that is there for one transfer, and closed with it. */
export class ChannelEnd {
  constructor(readonly channel: Channel) {}
}

/** @throws TensorwireError `INVALID_ARGUMENT` for what is open already, or is no way to a peer: it cannot be opened again. */
export function checkReopens(endpoint: Endpoint): void {
  if (endpoint instanceof Listener) return;
  const url = typeof endpoint === "string" || endpoint instanceof URL ? String(endpoint) : "";
  if (/^(unix:|(?!file:)[a-z][a-z0-9+.-]+:\/\/)/i.test(url)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    "retry needs a URL or a listener: a file, or a channel that is open already, cannot be opened again",
  );
}

/** The scheme of a URL, where it has one. */
export const schemeOf = (url: string): string | undefined =>
  /^([a-z][a-z0-9+.-]+):/i.exec(url)?.[1]?.toLowerCase();

const SCHEMES = ["ws", "wss", "tcp", "tls", "unix", "http", "https"];

/** The path of a file that an endpoint names, where it names one. */
export function filePath(endpoint: Endpoint): string | undefined {
  if (typeof endpoint !== "string" && !(endpoint instanceof URL)) return undefined;
  const url = String(endpoint);
  const scheme = schemeOf(url);
  if (scheme === "file") return fileURLToPath(url);
  // Other colons may be part of a path.
  const path = !scheme || (!SCHEMES.includes(scheme) && !url.startsWith("://", scheme.length));
  return path ? url : undefined;
}

/** The URL of a web server that an endpoint is, where it is one. @throws TensorwireError `INVALID_ARGUMENT` where it cannot be dialled so. */
export function webUrl(endpoint: Endpoint, dial: TransferOptions["dial"]): string | undefined {
  if (typeof endpoint !== "string" && !(endpoint instanceof URL)) return undefined;
  const url = String(endpoint);
  if (!["http", "https"].includes(schemeOf(url) ?? "")) return undefined;
  checkTls(url, dial);
  checkUrl(url);
  return url;
}

/** @throws TensorwireError `INVALID_ARGUMENT` for certificates that nobody would ask for. */
export function checkTls(url: string, dial: TransferOptions["dial"]): void {
  const scheme = schemeOf(url);
  if (!dial?.tls || !scheme || !["ws", "tcp", "unix", "http"].includes(scheme)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(shownUrl(url))}: dial.tls is for wss:, tls: and https:`,
  );
}

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkUrl(url: string): void {
  try {
    new URL(url);
  } catch {
    throw noUrl(url);
  }
}
