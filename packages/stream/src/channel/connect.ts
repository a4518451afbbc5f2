import { type Channel, type Hello, TensorwireError } from "@tensorwire/core";
import type { ResolvedOptions, TransferOptions } from "../options.js";
import { Connection, type ConnectionOptions } from "../session/connection.js";
import { throttledChannel } from "./throttled.js";

/** What this end of a connection is there for. */
export type Role = "send" | "receive";

export interface OpenOptions extends Pick<TransferOptions, "signal" | "dial"> {
  /** What HELLO asks the peer for, of one who receives: patterns of tensors. */
  readonly tensors?: readonly string[] | undefined;
  /** The version token of what this end has of the model already. */
  readonly holds?: string | undefined;
}

/** Channels whose own headers show the token. */
const HEADERS = ["websocket", "http"];

export const SOFTWARE = "tensorwire/0.1.0";

export interface ConnectOptions
  extends Pick<ConnectionOptions, "discreet" | "served">,
    Pick<OpenOptions, "tensors"> {
  /** What this end shows in HELLO, where the channel has no headers to show it in. */
  readonly token?: string | undefined;
  /** The version token of what this end has of the model already. */
  readonly holds?: string | undefined;
}

/** Frames on a channel. */
export function connect(
  channel: Channel,
  role: Role | "any",
  settings: ResolvedOptions,
  { token, holds, discreet, served, tensors }: ConnectOptions = {},
): Connection {
  const { registry, limits, windowBytes, maxBytesPerSecond: rate, idleTimeoutMs } = settings;
  const inHello = token !== undefined && !HEADERS.includes(channel.kind);
  // An artifact begins with HELLO too.
  if (inHello && channel.direction !== "both")
    throw undialled(`a ${channel.kind} channel without a way back`);
  const hello: Omit<Hello, "versions"> = {
    software: SOFTWARE,
    role,
    codecs: registry.names(),
    limits: {
      maxChunkBytes: Math.min(limits.maxChunkBytes, Math.floor(windowBytes / 2)),
      maxManifestBytes: limits.maxManifestBytes,
    },
    ...(tensors && { tensors: [...tensors] }),
    ...(inHello && { credential: token }),
    ...(holds !== undefined && { holds }),
  };
  const paced = rate === undefined ? channel : throttledChannel(channel, rate);
  return new Connection(paced, { hello, limits, discreet, served, idleTimeoutMs });
}

/** @returns what is wrong where a token could not be shown. */
export function undialled(what: string): TensorwireError {
  const advice = "dial.token is for a URL, a channel or a stream";
  return new TensorwireError("INVALID_ARGUMENT", `${what} shows no token of this side: ${advice}`);
}
