import { Duplex, Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type Channel, type Hello, quote, TensorwireError } from "@tensorwire/core";
import type WebSocket from "ws";
import type { ResolvedOptions, TransferOptions } from "../options.js";
import { Connection, type ConnectionOptions } from "../session/connection.js";
import { deferred } from "../session/deferred.js";
import { abortError } from "../session/transfer.js";
import { checkPrivacy, checkToken } from "../door/credential.js";
import { hostAddress, isLoopback, noUrl, shownUrl } from "./address.js";
import { dialWithin } from "./dial-watch.js";
import { duplexChannel, type StreamPair } from "./duplex.js";
import { fileReadChannel } from "./file.js";
import { dialHttp } from "./http-dial.js";
import { Listener } from "./listen.js";
import { dialTcp } from "./tcp.js";
import { throttledChannel } from "./throttled.js";
import { dialTls } from "./tls.js";
import { dialUnix } from "./unix.js";
import { type WebStreamPair, webStreamsChannel } from "./web-streams.js";
import { dialWebSocket, webSocketChannel } from "./websocket.js";

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

/** A connection for one transfer. */
export interface OpenedConnection {
  readonly connection: Connection;
  /** Whether it was opened here, and so is closed here. */
  readonly owned: boolean;
}

export interface OpenOptions extends Pick<TransferOptions, "signal" | "dial"> {
  /** What HELLO asks the peer for, of one who receives: patterns of tensors. */
  readonly tensors?: readonly string[] | undefined;
  /** The version token of what this end has of the model already. */
  readonly holds?: string | undefined;
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

type Role = "send" | "receive";

/** Channels whose own headers show the token. */
const HEADERS = ["websocket", "http"];

export const SOFTWARE = "tensorwire/0.1.0";

// One connection a channel, however many transfers: the second call on an open WebSocket finds the first one's.
const connections = new WeakMap<object, Connection>();

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
    const channel = await openUrl(String(endpoint), role, options, settings.idleTimeoutMs);
    const { holds } = options;
    return { connection: connect(channel, role, settings, { token, holds, tensors }), owned: true };
  }
  const known = connections.get(endpoint);
  if (known) {
    if (role === "receive") checkSameHello(known, tensors);
    return { connection: known, owned: false };
  }
  if (token !== undefined && isWebSocket(endpoint)) throw undialled("an open WebSocket");
  const channel = channelOf(endpoint);
  if (token !== undefined) checkPrivacy(channel.peer, `the other end of this ${channel.kind} channel`);
  const connection = connect(channel, "any", settings, { token, tensors });
  connections.set(endpoint, connection);
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

function undialled(what: string): TensorwireError {
  const advice = "dial.token is for a URL, a channel or a stream";
  return new TensorwireError("INVALID_ARGUMENT", `${what} shows no token of this side: ${advice}`);
}

/**
 * The first of a listener's peers that means business: one that has said HELLO, where we send; one that has announced
 * a model, where we receive. Others come and go without harm, and do not hold it up.
 */
async function acceptConnection(
  listener: Listener,
  role: Role,
  { signal, tensors }: OpenOptions,
  settings: ResolvedOptions,
): Promise<Connection> {
  const candidates = new Set<Connection>();
  const chosen = deferred<Connection>();
  const onAbort = (): void => chosen.reject(abortError(signal!.reason));
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const consider = (channel: Channel): void => {
    const connection = connect(channel, role, settings, { tensors });
    candidates.add(connection);
    const ready: Promise<unknown> = role === "send" ? connection.hello : connection.announced;
    ready.then(
      () => chosen.resolve(connection),
      (error) => {
        candidates.delete(connection);
        void connection.close(error);
      },
    );
  };
  const stopped = new AbortController();
  listener.each(consider, stopped.signal).then(
    () =>
      chosen.reject(new TensorwireError("CHANNEL_CLOSED", "the listener was closed before a transfer began")),
    (error) => chosen.reject(error),
  );
  let winner: Connection | undefined;
  try {
    winner = await chosen.promise;
    return winner;
  } finally {
    stopped.abort();
    signal?.removeEventListener("abort", onAbort);
    candidates.delete(winner!);
    for (const candidate of signal?.aborted ? [] : candidates) void candidate.close(busy());
    // Of a call that was cancelled its peers hear why; nobody waits long for one that does not listen.
    if (signal?.aborted)
      await Promise.all([...candidates].map((each) => each.refuse(abortError(signal.reason))));
  }
}

const busy = (): TensorwireError =>
  new TensorwireError("CHANNEL_CLOSED", "another peer's transfer was taken");

export interface ConnectOptions extends Pick<ConnectionOptions, "discreet">, Pick<OpenOptions, "tensors"> {
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
  { token, holds, discreet, tensors }: ConnectOptions = {},
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
  return new Connection(paced, { hello, limits, discreet, idleTimeoutMs });
}

async function openUrl(
  url: string,
  role: Role,
  { signal: abort, dial }: OpenOptions,
  idleTimeoutMs: number,
): Promise<Channel> {
  const dialled = (start: (signal: AbortSignal) => Promise<Channel>): Promise<Channel> =>
    dialWithin(url, idleTimeoutMs, abort, start);
  const scheme = schemeOf(url);
  checkTls(url, dial);
  switch (scheme) {
    case "ws":
    case "wss":
      checkUrl(url);
      return dialled((signal) => dialWebSocket(url, { ...dial, signal }));
    case "tcp":
      if (dial?.token !== undefined) {
        checkPrivacy({ private: isLoopback(hostAddress(url).host) }, shownUrl(url));
      }
      return dialled((signal) => dialTcp(url, signal));
    case "tls":
      return dialled((signal) => dialTls(url, dial?.tls, signal));
    case "unix":
      return dialled((signal) => dialUnix(url, signal));
    case "http":
    case "https":
      checkUrl(url);
      return dialled((signal) => dialHttp(url, { ...dial, signal }));
  }
  const path = filePath(url);
  if (path !== undefined) return openFile(path, role, dial);
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(shownUrl(url))}: ws:, wss:, http:, https:, tcp:, tls:, unix: and file: URLs can be opened`,
  );
}

const schemeOf = (url: string): string | undefined => /^([a-z][a-z0-9+.-]+):/i.exec(url)?.[1]?.toLowerCase();

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

function openFile(path: string, role: Role, dial: TransferOptions["dial"]): Promise<Channel> {
  if (dial?.token !== undefined) throw undialled("a file");
  if (role === "receive" && path.endsWith(".twire")) return fileReadChannel(path);
  const advice =
    role === "send" ? "send to a URL, or write an artifact" : "receive from a URL, or read an artifact";
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(path)} is no URL and no artifact: ${advice} (*.twire)`,
  );
}

function checkTls(url: string, dial: TransferOptions["dial"]): void {
  const scheme = schemeOf(url);
  if (!dial?.tls || !scheme || !["ws", "tcp", "unix", "http"].includes(scheme)) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${quote(shownUrl(url))}: dial.tls is for wss:, tls: and https:`,
  );
}

/** The URL of a web server that an endpoint is, where it is one. @throws TensorwireError `INVALID_ARGUMENT` where it cannot be dialled so. */
export function webUrl(endpoint: Endpoint, { dial }: OpenOptions): string | undefined {
  if (typeof endpoint !== "string" && !(endpoint instanceof URL)) return undefined;
  const url = String(endpoint);
  if (!["http", "https"].includes(schemeOf(url) ?? "")) return undefined;
  checkTls(url, dial);
  checkUrl(url);
  return url;
}

function checkUrl(url: string): void {
  try {
    new URL(url);
  } catch {
    throw noUrl(url);
  }
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
