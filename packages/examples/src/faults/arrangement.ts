import { join } from "node:path";
import type { ListenOptions, TransferOptions } from "@tensorwire/stream";
import type { Certificate } from "./certificate.js";
import type { Place } from "./faulty-wire.js";

/** Channels that have an address to dial. */
export const CHANNELS = ["ws", "http", "tcp", "unix", "tls", "wss", "https"] as const;
export type ChannelName = (typeof CHANNELS)[number];

/** Which channel, and which end of the transfer waits to be dialled: a push, or a pull. */
export interface Arrangement {
  readonly channel: ChannelName;
  readonly listens: "sender" | "receiver";
}

/** All of them; those under TLS where there is a certificate. */
export function arrangements(certificate: Certificate | undefined): Arrangement[] {
  return CHANNELS.filter((channel) => certificate || !isSecure(channel)).flatMap((channel) => [
    { channel, listens: "receiver" } as const,
    { channel, listens: "sender" } as const,
  ]);
}

const isSecure = (channel: ChannelName): boolean => ["tls", "wss", "https"].includes(channel);

export const arrangementName = ({ channel, listens }: Arrangement): string =>
  `${channel} ${listens === "receiver" ? "push" : "pull"}`;

/** How the end that waits is opened. @param path Of a Unix socket. */
export function listenOptions(
  channel: ChannelName,
  path: string,
  certificate: Certificate | undefined,
): ListenOptions {
  if (channel === "unix") return { path };
  return { url: `${channel}://127.0.0.1:0`, ...(isSecure(channel) && { tls: certificate }) };
}

/** How the other end dials. */
export function dialOptions(channel: ChannelName, certificate: Certificate | undefined): TransferOptions {
  return isSecure(channel) ? { dial: { tls: { ca: certificate!.cert } } } : {};
}

/** Where a listener's URL leads. */
export function placeOf(url: string): Place {
  if (url.startsWith("unix:")) return { path: decodeURIComponent(new URL(url).pathname) };
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

/** The URL of the same channel at another place. */
export function urlAt(channel: ChannelName, place: Place): string {
  return "path" in place ? `unix:${place.path}` : `${channel}://${place.host}:${place.port}`;
}

/** A path for a Unix socket: short, as those have to be. */
export const socketPath = (scratch: string, name: string): string => join(scratch, `${name}.sock`);
