import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import {
  asTensorwireError,
  type ChannelPeer,
  formatDigest,
  formatSha256,
  type Manifest,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import * as v from "valibot";
import { hostUrl } from "../channel/address.js";
import { type ListenOptions, listeningPlace } from "../channel/listening-place.js";
import { peerOf } from "../channel/request-peer.js";
import { boundTo } from "../channel/server.js";
import { boundSilence } from "../channel/silent-sockets.js";
import { serverTls } from "../channel/tls-options.js";
import { type Authorize, hasRight, type Principal } from "../door/principal.js";
import type { TransferOptions } from "../options.js";
import { guardedBy } from "../server/clear-text.js";
import { nameInPath } from "../server/model-path.js";
import { createModelServer, type ModelServer } from "../server/model-server.js";
import type { WebServer } from "../server/mount.js";
import type { Publication } from "../server/publications.js";
import type { ServedPeer } from "../server/reception.js";
import { answerRefusal } from "../server/refusal-answer.js";
import { sourceBytes } from "../server/served-transfer.js";
import { artifactSink } from "../sink/artifact.js";
import { safetensorsSink } from "../sink/safetensors.js";
import type { Sink } from "../sink/sink.js";
import type { TellAgent } from "./agent-event.js";
import { discardSink } from "./discard-sink.js";
import type { Exchange } from "./exchange.js";
import { FREE_PREFIX } from "./home.js";
import type { ModelStore } from "./model-store.js";
import { TransferId } from "./reference.js";
import { MAX_EXPIRES_SECONDS } from "./requests.js";
import { type StoredModel, takenError } from "./stored-model.js";

export interface PeersParts {
  readonly exchange: Exchange;
  readonly store: ModelStore;
  readonly listen: ListenOptions;
  readonly options: TransferOptions;
  /** How long an upload stays that does not say so. */
  readonly keepMs: number;
  readonly tell: TellAgent;
}

/** Where other agents upload what they publish, and fetch what is published. */
export class Peers {
  private constructor(
    private readonly parts: PeersParts,
    private readonly web: WebServer,
    readonly url: string,
    readonly server: ModelServer,
  ) {}

  /** @throws TensorwireError `INVALID_ARGUMENT`, also for an address off loopback that nothing guards; `CHANNEL_OPEN`. */
  static async open(parts: PeersParts): Promise<Peers> {
    const { listen, options, tell } = parts;
    const { tls, insecure, authorize, idleTimeoutMs } = listen;
    const asked =
      listen.url === undefined ? listen : { ...listen, url: String(listen.url).replace(/^http/i, "ws") };
    const place = listeningPlace(asked);
    if (place.scheme !== "ws" && place.scheme !== "wss") {
      const message = `an agent listens on http:, https:, ws: and wss: URLs, not on ${place.scheme}:`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const web = place.scheme === "wss" ? createSecureServer(serverTls(tls)) : createServer();
    boundSilence(web);
    let peers: Peers | undefined;
    web.on("request", (request, response) => void peers!.#request(request, response));
    const { limits: modelLimits, retry, dial, signal, onProgress, ...transfer } = options;
    const server = await createModelServer({
      ...{ ...transfer, modelLimits, server: web, insecure, authorize },
      ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
      find: (name) => peers!.#find(name),
      called,
      onReceive: ({ name }, manifest, peer) => peers!.#receive(name, manifest, peer),
    });
    server.on("refused", (refusal) => tell({ event: "refused", ...refusal }));
    server.on("transfer", (served) => tell({ event: "served", ...served, ...apart(served.name) }));
    server.on("answer", (served) => tell({ event: "answered", ...served, ...apart(served.name) }));
    try {
      const url = hostUrl(place.scheme, await boundTo(web, place.address));
      peers = new Peers(parts, web, url, server);
      return peers;
    } catch (error) {
      await server.close({ signal: AbortSignal.abort() });
      throw error;
    }
  }

  #find(name: string): Publication | undefined {
    const [model, id] = split(name);
    const stored = id === undefined ? undefined : this.parts.store.get(id);
    return stored && stored.name === model ? this.parts.store.publication(stored) : undefined;
  }

  async #receive(path: string, manifest: Manifest, { query, principal }: ServedPeer): Promise<Sink> {
    const { exchange, store, keepMs } = this.parts;
    const [name, id] = split(path);
    if (id === undefined || manifest.kind === "raw") {
      const message = `${quote(path)} cannot be taken: a model is uploaded to NAME/TRANSFER, as an agent does`;
      throw new TensorwireError("FORBIDDEN", message);
    }
    const known = store.get(id);
    if (known && known.name === name && isOf(known, principal)) return again(known.digest);
    if (known) throw new TensorwireError("FORBIDDEN", `${quote(id)} is another model's transfer here`);
    // Its file is read by whoever began to fetch it before it was freed.
    if (store.has(id)) throw takenError(id);
    const owner = principal?.name;
    store.checkRoom(id, owner);
    const exact = manifest.tensors.every(({ codec }) => codec.name === "none");
    const asItIs = exact && manifest.header?.format === "safetensors";
    const file = `${id}.${asItIs ? "safetensors" : "twire"}`;
    const at = exchange.own(file);
    // What lies there whole, and is no model's, is of an agent that died before it could say so.
    const target = { overwrite: true, parts: {} };
    const sink: Sink = asItIs ? safetensorsSink(at, target) : artifactSink(at, target);
    const created = Date.now();
    const expires = created + lifetime(query, keepMs);
    const { open, finish, abort } = sink;
    const { chunkBytes, integrity = "xxh64" } = manifest;
    let made = (): void => {};
    sink.open = async (model) => {
      made = store.make(id, owner);
      // Here, and not before: what goes wrong with a sink the peer is told.
      await exchange.checkRoom(exact ? sourceBytes(manifest) : 0);
      return open.call(sink, model);
    };
    sink.finish = async (totals, digests) => {
      await finish.call(sink, totals, digests);
      const digest = totals.sha256 ? `sha256:${formatSha256(totals.sha256)}` : formatDigest(totals.digest);
      const bytes = sourceBytes(manifest);
      await store.add({
        id,
        name: name!,
        owner,
        file,
        digest,
        bytes,
        chunkBytes,
        integrity,
        created,
        expires,
      });
      made();
    };
    sink.abort = async (error) => {
      await abort.call(sink, error);
      made();
    };
    return sink;
  }

  /** What is asked for beside models: that one be freed. */
  async #request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { listen, store, tell } = this.parts;
    const peer = peerOf(request);
    request.on("error", () => {});
    try {
      if (request.method !== "DELETE" || !peer.path!.startsWith(FREE_PREFIX)) {
        throw new TensorwireError("NOT_FOUND", "there is nothing here");
      }
      const authorize = guardedBy({ ...listen, server: this.web });
      const principal = authorize && (await asked(authorize, peer));
      if (authorize && !principal) throw new TensorwireError("UNAUTHORIZED", "the credential is refused");
      const path = nameInPath(peer.path!, FREE_PREFIX);
      const any = hasRight(principal, "free", path);
      if (!any && !hasRight(principal, "publish", path)) {
        throw new TensorwireError("FORBIDDEN", `this credential gives no right to free ${called(path)}`);
      }
      const [name, id] = split(path);
      const known = id === undefined ? undefined : store.get(id);
      if (!any && known && known.name === name && !isOf(known, principal)) {
        throw new TensorwireError(
          "FORBIDDEN",
          `this credential gives no right to free what others have published: ${called(path)}`,
        );
      }
      const freed = id === undefined ? 0 : await store.free(name!, id);
      if (id !== undefined) await store.forsake(id, (made) => any || isOf(made, principal));
      response.writeHead(freed > 0 ? 204 : 404, { connection: "close" }).end();
    } catch (cause) {
      const error = asTensorwireError(cause, "INTERNAL");
      const { credential: _, ...visible } = peer;
      tell({ event: "refused", error, peer: visible });
      answerRefusal(response, error);
    }
  }

  /** Takes no more peers. Whoever is being served goes on when the agent is started again. */
  async close(): Promise<void> {
    await this.server.close({
      signal: AbortSignal.abort(new TensorwireError("SERVER_BUSY", "the agent ends: try again later")),
    });
    const closed = once(this.web, "close");
    this.web.close();
    this.web.closeAllConnections();
    await closed;
  }
}

/** What it throws is for the owner, and the peer does not hear of it. @throws TensorwireError `UNAUTHORIZED`. */
async function asked(authorize: Authorize, peer: ChannelPeer): Promise<Principal | undefined> {
  try {
    return await authorize(peer.credential, peer);
  } catch (cause) {
    throw new TensorwireError("UNAUTHORIZED", "the credential could not be checked", { cause });
  }
}

/** For an agent that has not heard that its upload is here: the same one gets its receipt. */
function again(digest: string): Sink {
  return discardSink(async (totals) => {
    const found = totals.sha256 ? `sha256:${formatSha256(totals.sha256)}` : formatDigest(totals.digest);
    if (found === digest) return;
    throw new TensorwireError("TARGET_EXISTS", "another model has been published by this transfer already");
  });
}

/** Whether whoever shows that has uploaded the model. Nobody was asked who they are: then it is everybody's. */
const isOf = ({ owner }: Pick<StoredModel, "owner">, principal: Principal | undefined): boolean =>
  principal === undefined || owner === principal.name;

/** `NAME/TRANSFER`; without a transfer where it is no such path. */
function split(path: string): readonly [string | undefined, string | undefined] {
  const slash = path.lastIndexOf("/");
  const id = path.slice(slash + 1);
  if (slash < 1 || !v.is(TransferId, id)) return [undefined, undefined];
  return [path.slice(0, slash), id];
}

/** How long whoever uploads wants it to stay, in milliseconds. */
function lifetime(query: string | undefined, keepMs: number): number {
  const seconds = Number(new URLSearchParams(query).get("expires") ?? Number.NaN);
  return seconds >= 1 && seconds <= MAX_EXPIRES_SECONDS ? seconds * 1000 : keepMs;
}

/** Of the path in a URL, which stands for both. */
function apart(path: string): { readonly name: string; readonly transfer: string | undefined } {
  const [name = path, transfer] = split(path);
  return { name, transfer };
}

/** A model for people: its name and its transfer, where the path has both. */
function called(path: string): string {
  const { name, transfer } = apart(path);
  return transfer === undefined ? quote(name) : `${quote(name)} (transfer ${transfer})`;
}
