import { EventEmitter, setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { asTensorwireError, TensorwireError } from "@tensorwire/core";
import { hostOf } from "../channel/peer.js";
import { publish } from "../diagnostics/events.js";
import { logTo } from "../diagnostics/logger.js";
import { Gate, type PublicPeer, type Visitor } from "../door/gate.js";
import { hasRight } from "../door/principal.js";
import { resolveOptions, type TransferOptions } from "../options.js";
import type { TransferSummary } from "../session/summary.js";
import { SERVER_STALL_TIMEOUT_MS } from "../session/timeouts.js";
import { abortError } from "../session/transfer.js";
import type { SourceLike } from "../source/open.js";
import { guardedBy } from "./clear-text.js";
import { discreet } from "./discretion.js";
import { MetricsPage } from "./metrics-page.js";
import { checkPrefix, nameInPath, pathOfName } from "./model-path.js";
import { plainVisitor } from "./plain-get.js";
import { type FindModel, Publications, type PublishOptions } from "./publications.js";
import type { OnReceive, ServedPeer } from "./reception.js";
import { Seats } from "./seats.js";
import {
  receiveUpload,
  sendPublication,
  type TransferOfPeer,
  type TransferTerms,
  type UploadOptions,
} from "./served-transfer.js";
import { resolveServerLimits, type ServerLimits } from "./server-limits.js";
import { UploadFolder } from "./upload-folder.js";
import { type WebPlace, type WebPlaceOptions, webPlace } from "./web-place.js";

/** Options of `createModelServer`. Those of a transfer are for all of its transfers. */
export interface ModelServerOptions
  extends WebPlaceOptions,
    Omit<TransferOptions, "signal" | "onProgress" | "dial" | "limits" | "retry"> {
  /** Where the names of models begin in a URL. Default `/models/`. */
  readonly prefix?: string | undefined;
  /** Finds a model that is not published by name, when a peer asks for it. */
  readonly find?: FindModel | undefined;
  /** Says where a model goes that a peer sends, or refuses it. Default: under its name in `uploads`. */
  readonly onReceive?: OnReceive | undefined;
  /** The folder that models are written to, and nothing outside it. Without it, and without `onReceive`, none are taken. */
  readonly uploads?: string | undefined;
  /** How models that peers send are written. */
  readonly receive?: UploadOptions | undefined;
  /** Answers Prometheus, at `/metrics` or another path: whoever is let in may read it. Default false. */
  readonly metrics?: boolean | string | undefined;
  /** What the server bears at once, see `docs/limits.md`. */
  readonly limits?: Partial<ServerLimits> | undefined;
  /** What a peer may announce, see `docs/limits.md`. */
  readonly modelLimits?: TransferOptions["limits"];
}

/** A transfer of a server, as its events tell of it. */
export interface ServedTransfer {
  /** Of this server: 1, 2, … */
  readonly id: number;
  /** `fetch`: the peer has asked for a published model. `upload`: it sends one. */
  readonly direction: "fetch" | "upload";
  readonly name: string;
  readonly peer: ServedPeer;
  readonly done: Promise<TransferSummary>;
}

/** A peer that got nothing: it was not let in, or had no right, or asked for what there is not, or too much. */
export interface Refusal {
  readonly error: TensorwireError;
  readonly peer: PublicPeer;
}

export interface ModelServerEvents {
  transfer: [ServedTransfer];
  refused: [Refusal];
}

/**
 * Publishes models by name, and takes models that peers send. Its URLs end in the name: whoever asks for one gets the model,
 * whoever sends to one uploads it.
 * @throws TensorwireError `INVALID_ARGUMENT`, also for an address off loopback that nothing guards; `CHANNEL_OPEN`.
 * @example
 * const server = await createModelServer({ port: 9000, uploads: "rounds", authorize: await bearerTokens("tokens.json") });
 * server.publish("llama", "model.safetensors", { codec: "normfloat4" });
 * await streamModel(update, server.urlOf("round-3"), { dial: { token } });
 */
export async function createModelServer(options: ModelServerOptions = {}): Promise<ModelServer> {
  return ModelServer.open(options);
}

export class ModelServer extends EventEmitter<ModelServerEvents> {
  readonly #publications: Publications;
  readonly #limits: ServerLimits;
  readonly #seats: Seats;
  readonly #prefix: string;
  readonly #gate: Gate;
  readonly #force = new AbortController();
  /** What is being done for a peer, from when it was let in. */
  readonly #visits = new Set<Promise<void>>();
  readonly #terms: TransferTerms;
  #place!: WebPlace;
  #transfers = 0;
  #closing: Promise<void> | undefined;
  readonly #stopLogging: () => void;
  #metrics: MetricsPage | undefined;

  private constructor(options: ModelServerOptions, terms: TransferTerms) {
    super();
    this.#limits = resolveServerLimits(options.limits);
    this.#seats = new Seats(this.#limits);
    this.#prefix = checkPrefix(options.prefix);
    this.#publications = new Publications(options.find);
    // One signal for all transfers: each listens to it.
    setMaxListeners(0, this.#force.signal);
    this.#terms = { ...terms, options: { ...terms.options, signal: this.#force.signal } };
    this.#gate = new Gate({
      authorize: guardedBy(options),
      full: () => this.#visits.size >= this.#limits.maxConnections,
      enter: (visitor) => this.#visit(visitor),
      refused: (error, peer) => this.#refused(error, peer),
      helloTimeoutMs: terms.settings.idleTimeoutMs,
    });
    this.#stopLogging = logTo(this, options.logger);
  }

  /** @internal */
  static async open(options: ModelServerOptions): Promise<ModelServer> {
    const { receive = {}, onReceive, uploads, metrics } = options;
    const transfer = transferOptions(options);
    const settings = await resolveOptions(transfer);
    const folder = uploads === undefined ? undefined : await UploadFolder.open(uploads);
    const server = new ModelServer(options, {
      settings,
      options: { ...transfer, backend: settings.backend },
      receive,
      onReceive,
      folder,
      discreet,
    });
    if (metrics) server.#metrics = await MetricsPage.open(metrics, server.#gate);
    try {
      server.#place = await webPlace(options, {
        prefix: server.#prefix,
        visitors: server.#gate,
        download: (request, response) => void server.#download(request, response),
        pages: server.#metrics ? [server.#metrics] : [],
        maxConnections: server.#limits.maxConnections,
      });
    } catch (error) {
      server.#unwatch();
      throw error;
    }
    return server;
  }

  /** What the names of models stand behind, for peers to dial: `ws://host:port/models/`. */
  get url(): string {
    return this.#place.url + this.#prefix;
  }

  /** What a peer dials for the model of that name. */
  urlOf(name: string): string {
    return this.#place.url + pathOfName(name, this.#prefix);
  }

  /** Names of the models that are published, sorted. Those that `find` would find are not among them. */
  get names(): string[] {
    return this.#publications.names;
  }

  /** Transfers that are under way. */
  get transfers(): number {
    return this.#seats.taken;
  }

  /**
   * Publishes a model, or another one in its place. It is opened, and encoded, for each receiver anew: a source that can be
   * read once is given as a function that makes it.
   * @throws TensorwireError `INVALID_ARGUMENT`.
   */
  publish(
    name: string,
    source: SourceLike | (() => SourceLike | Promise<SourceLike>),
    options: PublishOptions = {},
  ): void {
    this.#publications.publish(name, source, options);
  }

  /** Whoever is receiving it goes on. Whether it was published. */
  unpublish(name: string): boolean {
    return this.#publications.unpublish(name);
  }

  /**
   * Takes no more peers, and waits for the transfers that are under way; when `signal` aborts, they are ended with its reason.
   * Called again, it can still be given a signal.
   */
  close({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const force = (): void => this.#force.abort(abortError(signal!.reason));
    if (signal?.aborted) force();
    signal?.addEventListener("abort", force, { once: true });
    this.#closing ??= this.#close();
    return this.#closing.finally(() => signal?.removeEventListener("abort", force));
  }

  async #close(): Promise<void> {
    this.#gate.close(new TensorwireError("SERVER_BUSY", "the server is closing: try again later"));
    // Refusals are told over the place that is about to close.
    while (this.#visits.size > 0) await Promise.allSettled(this.#visits);
    await this.#place.close(this.#force.signal);
    this.#unwatch();
  }

  #unwatch(): void {
    this.#metrics?.close();
    this.#stopLogging();
  }

  async #download(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const visitor = await plainVisitor(this.#gate, request, response);
    if (visitor) this.#visit(visitor);
  }

  #visit(visitor: Visitor): void {
    const visit = this.#serve(visitor);
    this.#visits.add(visit);
    void visit.finally(() => this.#visits.delete(visit));
  }

  /** Never rejects. */
  async #serve(visitor: Visitor): Promise<void> {
    const peer: ServedPeer = { ...visitor.peer, principal: visitor.principal };
    let transfer: TransferOfPeer | undefined;
    let done: Promise<TransferSummary>;
    let direction: ServedTransfer["direction"];
    try {
      const name = nameInPath(peer.path ?? "", this.#prefix);
      direction = await this.#direction(visitor, name);
      this.#checkRight(visitor, direction, name);
      transfer = { visitor, name, peer, seat: this.#seats.take(keyOf(peer)) };
      done =
        direction === "upload"
          ? receiveUpload(transfer, this.#terms)
          : sendPublication(transfer, await this.#publications.get(name), this.#terms);
    } catch (cause) {
      transfer?.seat.leave();
      const error = asTensorwireError(cause, "INTERNAL");
      this.#refused(error, visitor.peer);
      return visitor.refuse(error);
    }
    done = done.finally(() => transfer.seat.leave());
    this.#tell("transfer", { id: ++this.#transfers, direction, name: transfer.name, peer, done });
    await done.catch(() => {});
  }

  /** What the peer came for. One that does not say gets what is published, and sends what is not. */
  async #direction({ hello, principal }: Visitor, name: string): Promise<ServedTransfer["direction"]> {
    if (hello.role === "any") {
      // Who may not have a model does not learn, by what is refused, whether it is there.
      const there = hasRight(principal, "fetch", name) && (await this.#publications.has(name));
      return there ? "fetch" : "upload";
    }
    return hello.role === "receive" ? "fetch" : "upload";
  }

  #checkRight({ principal }: Visitor, direction: ServedTransfer["direction"], name: string): void {
    const { onReceive, folder } = this.#terms;
    if (direction === "upload" && !onReceive && !folder) {
      throw new TensorwireError("FORBIDDEN", "this server takes no models");
    }
    if (hasRight(principal, direction === "upload" ? "publish" : "fetch", name)) return;
    const deed = direction === "upload" ? "send" : "have";
    throw new TensorwireError("FORBIDDEN", `this credential gives no right to ${deed} that model`);
  }

  #refused(error: TensorwireError, peer: PublicPeer): void {
    const { code, message: reason } = error;
    publish("tensorwire:server:refuse", () => ({ server: this, code, reason, peer: peer.address }));
    this.#tell("refused", { error, peer });
  }

  /** Whoever listens may throw: that is not the transfer's affair. */
  #tell<K extends keyof ModelServerEvents>(event: K, ...what: ModelServerEvents[K]): void {
    process.nextTick(() => this.emit(event, ...(what as never)));
  }
}

/** What is a server's own affair left out, the rest is for its transfers. */
function transferOptions(options: ModelServerOptions): TransferOptions {
  const { prefix, find, onReceive, uploads, receive, limits, modelLimits, metrics, ...others } = options;
  const { server, url, host, port, tls, insecure, authorize, ...transfer } = others;
  const { stallTimeoutMs = SERVER_STALL_TIMEOUT_MS } = transfer;
  return { ...transfer, stallTimeoutMs, limits: modelLimits };
}

/** What counts as one peer. */
function keyOf(peer: ServedPeer): string {
  return peer.principal ? `principal ${peer.principal.name}` : `host ${hostOf(peer)}`;
}
