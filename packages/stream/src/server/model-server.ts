import { EventEmitter, setMaxListeners } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { quote, TensorwireError } from "@tensorwire/core";
import type { Dashboard } from "../dashboard/dashboard.js";
import { publish } from "../diagnostics/events.js";
import { logTo } from "../diagnostics/logger.js";
import { Gate, type PublicPeer } from "../door/gate.js";
import { resolveOptions } from "../options.js";
import { abortError } from "../session/transfer.js";
import { guardedBy } from "./clear-text.js";
import { discreet } from "./discretion.js";
import type { CollectOptions } from "./collect-options.js";
import type { Collection } from "./collection.js";
import { Collections } from "./collections.js";
import { MetricsPage } from "./metrics-page.js";
import { checkPrefix, pathOfName } from "./model-path.js";
import { plainVisitor } from "./plain-get.js";
import { Publications, type PublishOptions } from "./publications.js";
import { Seats } from "./seats.js";
import type { TransferTerms } from "./served-transfer.js";
import { resolveServerLimits, type ServerLimits } from "./server-limits.js";
import { type ModelServerOptions, transferOptions } from "./server-options.js";
import type { PublishedModel } from "./spool.js";
import type { PublishedSource, SpoolOptions } from "./spool-options.js";
import { SpoolRoom } from "./spool-room.js";
import { UploadFolder } from "./upload-folder.js";
import { type ServedAnswer, type ServedTransfer, Visits } from "./visits.js";
import { type WebPlace, webPlace } from "./web-place.js";

/** A peer that got nothing: it was not let in, or had no right, or asked for what there is not, or too much. */
export interface Refusal {
  /** What it was told. */
  readonly error: TensorwireError;
  /** Who it was, as far as that is known. */
  readonly peer: PublicPeer;
}

/** What a server tells its owner. */
export interface ModelServerEvents {
  /** A transfer has begun. */
  transfer: [ServedTransfer];
  /** Parts of an artifact, too, are answers: they are not put together here. */
  answer: [ServedAnswer];
  /** A peer was turned away. */
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

/**
 * A server of models, as `createModelServer` gives it.
 * @example
 * const server: ModelServer = await createModelServer({ port: 9000 });
 * server.publish("llama", "model.safetensors", { codec: "normfloat4" });
 * await receiveModel(server.urlOf("llama"), { to: "llama.safetensors" }).done;
 * await server.close();
 */
export class ModelServer extends EventEmitter<ModelServerEvents> {
  readonly #publications: Publications;
  readonly #collections: Collections;
  readonly #limits: ServerLimits;
  readonly #seats: Seats;
  readonly #prefix: string;
  readonly #gate: Gate;
  readonly #force = new AbortController();
  readonly #visits: Visits;
  #place!: WebPlace;
  #transfers = 0;
  #closing: Promise<void> | undefined;
  readonly #stopLogging: () => void;
  #metrics: MetricsPage | undefined;
  #dashboard: Dashboard | undefined;

  private constructor(options: ModelServerOptions, terms: TransferTerms) {
    super();
    this.#limits = resolveServerLimits(options.limits);
    this.#seats = new Seats(this.#limits);
    this.#prefix = checkPrefix(options.prefix);
    // One signal for all transfers: each listens to it.
    setMaxListeners(0, this.#force.signal);
    const spools = { ...terms, room: new SpoolRoom(this.#limits.maxSpoolBytes) };
    this.#publications = new Publications(options.find, spools, options.called);
    const { uploads, authorize } = options;
    this.#collections = new Collections(spools, { uploads, named: authorize !== undefined });
    this.#visits = new Visits({
      prefix: this.#prefix,
      called: options.called ?? quote,
      publications: this.#publications,
      collections: this.#collections,
      seats: this.#seats,
      terms: { ...terms, options: { ...terms.options, signal: this.#force.signal } },
      begun: (transfer) => this.#tell("transfer", { ...transfer, id: ++this.#transfers }),
      answered: (answer) => this.#tell("answer", answer),
      refused: (error, peer) => this.#refused(error, peer),
    });
    this.#gate = new Gate({
      authorize: guardedBy(options),
      full: () => this.#visits.size >= this.#limits.maxConnections,
      enter: (visitor) => this.#visits.receive(visitor),
      refused: (error, peer) => this.#refused(error, peer),
      helloTimeoutMs: terms.settings.idleTimeoutMs,
    });
    this.#stopLogging = logTo(this, options.logger);
  }

  /** @internal */
  static async open(options: ModelServerOptions): Promise<ModelServer> {
    const { receive = {}, onReceive, uploads, metrics, dashboard } = options;
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
      if (dashboard) {
        // Whoever has no such page need not load what makes it.
        const { Dashboard } = await import("../dashboard/dashboard.js");
        const { windowBytes, budget } = settings;
        server.#dashboard = await Dashboard.open({ at: dashboard, gate: server.#gate, windowBytes, budget });
      }
      server.#place = await webPlace(options, {
        prefix: server.#prefix,
        visitors: server.#gate,
        download: (request, response) => void server.#download(request, response),
        pages: [...(server.#metrics ? [server.#metrics] : []), ...(server.#dashboard?.pages ?? [])],
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

  /** Where a browser finds the dashboard, if there is one: `http://host:port/dashboard/`. */
  get dashboardUrl(): string | undefined {
    return this.#dashboard && this.#place.url.replace(/^ws/, "http") + this.#dashboard.path;
  }

  /** What a peer dials for the model of that name; of one that is spooled, for that version of it, in that codec. */
  urlOf(
    name: string,
    wish: { readonly version?: number | undefined; readonly codec?: string | undefined } = {},
  ): string {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(wish)) if (value !== undefined) query.set(key, String(value));
    return this.#place.url + pathOfName(name, this.#prefix) + (query.size > 0 ? `?${query}` : "");
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
    source: PublishedSource,
    options?: PublishOptions & { readonly spool?: undefined },
  ): void;
  /**
   * Publishes a model, or a new version of it, that is encoded once, in each of its codecs, when a receiver first asks for it:
   * all are served from the artifact. A file that is in the state in which it was published before, by this server or an
   * earlier one, is no new version.
   * @throws TensorwireError `INVALID_ARGUMENT`, `TARGET_WRITE`, `TARGET_BUSY` where another server has the spool, and as
   * opening the file.
   * @example
   * await server.publish("llama", "model.safetensors", { spool: "spool", codecs: ["normfloat4", "none"] });
   * await receiveModel(server.urlOf("llama", { codec: "none" }), { to: "llama.safetensors" }).done;
   */
  publish(name: string, source: PublishedSource, options: SpoolOptions): Promise<PublishedModel>;
  publish(
    name: string,
    source: PublishedSource,
    options: PublishOptions & { readonly spool?: string | undefined } = {},
  ): Promise<PublishedModel> | undefined {
    const { spool } = options;
    if (spool !== undefined) return this.#publications.spool(name, source, { ...options, spool });
    this.#publications.publish(name, source, options);
    return undefined;
  }

  /**
   * What is known of a model that is published from a spool: version, codecs, digests, bytes, readers.
   * @throws TensorwireError `NOT_FOUND`.
   */
  published(name: string): PublishedModel {
    return this.#publications.report(name);
  }

  /** Whoever is receiving it goes on. Whether it was published. */
  unpublish(name: string): boolean {
    return this.#publications.unpublish(name);
  }

  /**
   * Collects the models of a round's clients: what they send to `<round>/<client>`. What an earlier process has collected of the
   * round in that folder counts, and clients go on where they were.
   * @throws TensorwireError `INVALID_ARGUMENT`, `TARGET_WRITE`, `TARGET_BUSY` where another server is collecting it,
   * `SOURCE_MISMATCH` and `SOURCE_INVALID` for what lies in the folder, and is not of the round.
   * @example
   * const round = await server.collect("round-7", { expect: 16, quorum: 12, deadline: 600_000, model: "model.safetensors" });
   * const models = await round.done;
   */
  collect(round: string, options: CollectOptions): Promise<Collection> {
    return this.#collections.collect(round, options);
  }

  /**
   * Takes no more peers, and waits for the transfers that are under way; when `signal` aborts, they are ended with its reason.
   * Called again, it can still be given a signal.
   */
  close({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const force = (): void => {
      this.#force.abort(abortError(signal!.reason));
      void this.#publications.close();
    };
    if (signal?.aborted) force();
    signal?.addEventListener("abort", force, { once: true });
    this.#closing ??= this.#close();
    return this.#closing.finally(() => signal?.removeEventListener("abort", force));
  }

  async #close(): Promise<void> {
    this.#gate.close(new TensorwireError("SERVER_BUSY", "the server is closing: try again later"));
    // Refusals are told over the place that is about to close.
    await this.#visits.over();
    await Promise.all([this.#publications.close(), this.#collections.close()]);
    await this.#place.close(this.#force.signal);
    this.#unwatch();
  }

  #unwatch(): void {
    this.#metrics?.close();
    this.#dashboard?.close();
    this.#stopLogging();
  }

  async #download(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const visitor = await plainVisitor(this.#gate, request, response);
    if (visitor) this.#visits.receive(visitor);
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
