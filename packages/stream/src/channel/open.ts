import { Duplex, Readable, Writable } from "node:stream";
import { type Channel, TensorwireError } from "@tensorwire/core";
import type WebSocket from "ws";
import { checkPrivacy, checkToken } from "../door/credential.js";
import type { ResolvedOptions } from "../options.js";
import { Connection } from "../session/connection.js";
import { acceptConnection } from "./accept.js";
import { connect, type OpenOptions, type Role, undialled } from "./connect.js";
import { dialWhenListening } from "./dial-wait.js";
import { duplexChannel, type StreamPair } from "./duplex.js";
import { ChannelEnd, type Endpoint } from "./endpoint.js";
import { connectionOn, keepConnection } from "./known-connections.js";
import { Listener } from "./listen.js";
import { sharedChannelOf } from "./shared-socket.js";
import { openUrl } from "./open-url.js";
import { type WebStreamPair, webStreamsChannel } from "./web-streams.js";
import { webSocketChannel } from "./websocket.js";

/** A connection for one transfer. */
export interface OpenedConnection {
  readonly connection: Connection;
  /** Whether it was opened here, and so is closed here. */
  readonly owned: boolean;
}

/** Opens what is no channel yet, and puts frames on it. */
export async function openConnection(
  endpoint: Endpoint,
  role: Role,
  options: OpenOptions,
  settings: ResolvedOptions,
): Promise<OpenedConnection> {
  const token = options.dial?.token;
  const tensors = role === "receive" ? options.tensors : undefined;
  if (token !== undefined) checkToken(token);
  // Made for this one transfer by whoever has read the peer's HELLO: the server.
  if (endpoint instanceof Connection) return { connection: endpoint, owned: true };
  if (endpoint instanceof ChannelEnd) {
    return { connection: connect(endpoint.channel, role, settings, { token, tensors }), owned: true };
  }
  if (endpoint instanceof Listener) {
    if (token !== undefined) throw undialled("a listener");
    return {
      connection: await acceptConnection(endpoint, role, { ...options, tensors }, settings),
      owned: true,
    };
  }
  if (typeof endpoint === "string" || endpoint instanceof URL) {
    const { dial, signal } = options;
    const channel = await dialWhenListening(dial?.waitMs, signal, () =>
      openUrl(String(endpoint), role, options, settings.idleTimeoutMs),
    );
    const { holds } = options;
    return { connection: connect(channel, role, settings, { token, holds, tensors }), owned: true };
  }
  const shared = sharedChannelOf(endpoint);
  if (shared) return openConnection(shared, role, options, settings);
  const known = connectionOn(endpoint);
  if (known) {
    if (known.failure) await known.over();
    if (role === "receive") checkSameHello(known, tensors);
    return { connection: known, owned: false };
  }
  if (token !== undefined && isWebSocket(endpoint)) throw undialled("an open WebSocket");
  const channel = channelOf(endpoint);
  if (token !== undefined) checkPrivacy(channel.peer, `the other end of this ${channel.kind} channel`);
  const connection = connect(channel, "any", settings, { token, tensors });
  keepConnection(endpoint, connection);
  return { connection, owned: false };
}

/** HELLO is said once, for all transfers of a connection. */
function checkSameHello({ options }: Connection, tensors: readonly string[] | undefined): void {
  if (JSON.stringify(options.hello.tensors) === JSON.stringify(tensors)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    "tensors are asked for when a connection begins, and this one has begun with others: open another one, or ask alike",
  );
}

function channelOf(endpoint: Exclude<Endpoint, string | URL | Listener | ChannelEnd>): Channel {
  if (isWebSocket(endpoint)) return webSocketChannel(endpoint);
  if (endpoint instanceof Duplex) return duplexChannel(endpoint);
  const { open, send } = endpoint as Partial<Channel>;
  if (typeof open === "function" && typeof send === "function") return endpoint as Channel;
  if (endpoint instanceof Readable) return duplexChannel({ readable: endpoint });
  if (endpoint instanceof Writable) return duplexChannel({ writable: endpoint });
  const { readable, writable } = endpoint as StreamPair | WebStreamPair;
  if (readable instanceof Readable || writable instanceof Writable)
    return duplexChannel(endpoint as StreamPair);
  if (isWebStream(readable) || isWebStream(writable)) return webStreamsChannel(endpoint as WebStreamPair);
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    "this is no URL, path, WebSocket, stream, pair of streams, channel or listener",
  );
}

// By its shape: streams of WebTransport may be another's than Node's.
function isWebStream(stream: object | undefined): boolean {
  return stream !== undefined && ("getReader" in stream || "getWriter" in stream);
}

// By its shape: the caller's `ws` may be another copy than ours.
function isWebSocket(endpoint: object): endpoint is WebSocket {
  const { readyState, terminate, ping } = endpoint as Partial<WebSocket>;
  return typeof readyState === "number" && typeof terminate === "function" && typeof ping === "function";
}
