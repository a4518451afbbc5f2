import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { SOFTWARE } from "../channel/connect.js";
import { checkModelName } from "../server/model-path.js";
import { Lock } from "../sink/lock.js";
import { type TellAgent, tellLater } from "./agent-event.js";
import {
  type AgentOptions,
  checkAgentOptions,
  DEFAULT_KEEP_MS,
  DEFAULT_PATIENCE_MS,
  DEFAULT_RESERVE_BYTES,
} from "./agent-options.js";
import type { AgentTransfer } from "./agent-transfer.js";
import { openDirectory } from "./directory.js";
import { Exchange } from "./exchange.js";
import { identifyExchange } from "./exchange-mark.js";
import { fetching, unfetched } from "./fetching.js";
import { Home } from "./home.js";
import { API_VERSION, LocalApi, type LocalDeeds } from "./local-api.js";
import { type LocalServer, localServer } from "./local-server.js";
import { localToken } from "./local-token.js";
import { ModelStore } from "./model-store.js";
import { Peers } from "./peers.js";
import { processMemory } from "./process-memory.js";
import { publishing, takenFile, unpublished } from "./publishing.js";
import { checkTransferId } from "./reference.js";
import { takeBody } from "./request-body.js";
import {
  type Asked,
  type Encoding,
  parseFetch,
  parsePublish,
  parsePublishQuery,
  parseSend,
} from "./requests.js";
import { checkDestination, sendingFile } from "./sending-file.js";
import { takenError } from "./stored-model.js";
import { sweeping } from "./sweep.js";
import { type Terms, termsFor } from "./terms.js";
import { type Deeds, TransferList } from "./transfer-list.js";
import { type TransferKind, transferJson } from "./transfer-record.js";

/**
 * A daemon beside a trainer, which does the moving: docs/agent.md.
 * @example
 * const agent = await createAgent({ directory: "agent" });
 * console.log(agent.url); // null
 * await agent.close();
 */
export class Agent implements LocalDeeds {
  #local!: LocalServer;
  #peers: Peers | undefined;
  #stopSweeping: () => Promise<void> = async () => {};
  #closing: Promise<void> | undefined;

  private constructor(
    private readonly options: AgentOptions,
    private readonly parts: AgentParts,
  ) {}

  /** @internal */
  static async open(options: AgentOptions): Promise<Agent> {
    checkAgentOptions(options);
    const { directory, dial = {}, transfer = {} } = options;
    const home = options.home === undefined ? undefined : new Home(options.home, dial);
    const { keepMs = DEFAULT_KEEP_MS, patienceMs = DEFAULT_PATIENCE_MS } = options;
    const locks = [await openDirectory(directory, join(directory, "agent.lock"))];
    let agent: Agent | undefined;
    try {
      const { exchange: path = join(directory, "exchange"), allow = [] } = options;
      const { reserveBytes = DEFAULT_RESERVE_BYTES } = options;
      const exchange = await Exchange.open({ path, allow, reserveBytes });
      // Another agent would sweep what is not its own.
      locks.push(await Lock.take(exchange.own(".lock"), exchange.path));
      const identity = await identifyExchange(exchange.path);
      const label = (): string | null => agent!.url;
      const store = await ModelStore.open(join(directory, "models"), { exchange, home: label });
      const tell = tellLater(options.onEvent);
      const transfers = await TransferList.open(join(directory, "transfers"), tell);
      const shared = { exchange, store, home, options: transfer, patienceMs };
      const none = async (): Promise<void> => {};
      const deeds: Deeds = {
        publish: { move: publishing(shared), undo: unpublished(shared) },
        fetch: { move: fetching(shared), undo: unfetched(shared) },
        send: { move: sendingFile({ ...shared, dial }), undo: none },
      };
      agent = new Agent(options, { exchange, identity, store, transfers, home, deeds, locks, keepMs, tell });
      await agent.#start();
      return agent;
    } catch (error) {
      await agent?.close();
      for (const lock of locks) await lock.release();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { exchange, store, transfers, deeds, keepMs, tell } = this.parts;
    const {
      directory,
      listen,
      transfer: options = {},
      local = { socket: join(directory, "agent.sock") },
    } = this.options;
    store.held = (id) => transfers.all.some(({ record }) => record.held === id);
    transfers.forgotten = async ({ path, owned, held }) => {
      if (held !== undefined) await store.release(held);
      else if (owned && path !== undefined) await exchange.discard(path);
    };
    if (listen) this.#peers = await Peers.open({ exchange, store, listen, options, keepMs, tell });
    transfers.resume(deeds);
    this.#stopSweeping = sweeping({ exchange, store, transfers, keepMs });
    const file = this.options.localTokenFile ?? ("socket" in local ? undefined : join(directory, "token"));
    const token = file === undefined ? undefined : await localToken(file);
    const api = new LocalApi(this, token, tell);
    this.#local = await localServer(local, (request, response) => void api.answer(request, response));
  }

  /** Where programs of this machine reach it: `unix:/path.sock` or `http://127.0.0.1:port`. */
  get local(): string {
    return this.#local.url;
  }

  /** Where other agents reach it, if it is a home. */
  get url(): string | null {
    return this.#peers?.url ?? null;
  }

  /** What it is doing, and what it has: the answer of `GET /v1/status`. */
  async status(): Promise<object> {
    const { exchange, identity, store, transfers, home } = this.parts;
    return {
      ...{ version: SOFTWARE.split("/").at(-1), api: API_VERSION, home: home?.label ?? null, url: this.url },
      exchange: {
        ...{ path: exchange.path, identity, reserveBytes: exchange.reserveBytes },
        ...(await exchange.space()),
      },
      memory: await processMemory(),
      models: store.list(),
      transfers: transfers.all.map(({ record }) => transferJson(record)),
    };
  }

  /** Publishes a file, as `POST /v1/models` does. */
  async publish(body: unknown): Promise<AgentTransfer> {
    const asked = parsePublish(body);
    const { name, path, expiresSeconds } = asked.request;
    const known = this.#same("publish", name, asked);
    if (known) return known;
    this.#checkPlace(asked);
    await this.parts.exchange.source(path);
    return this.#begin("publish", name, asked, { expiresSeconds, terms: this.#terms(asked) });
  }

  /** Publishes what a request carries, as `PUT /v1/models/NAME` does. */
  async publishBody(given: string, query: URLSearchParams, request: IncomingMessage): Promise<AgentTransfer> {
    const name = checkModelName(given);
    const asked = parsePublishQuery(name, query);
    const known = this.#same("publish", name, asked);
    if (known) return known;
    this.#checkPlace(asked);
    const { transfers, store, exchange } = this.parts;
    transfers.checkRoom();
    const id = asked.id ?? randomUUID();
    return store.making(id, async () => {
      await takeBody(request, id, exchange);
      try {
        const { expiresSeconds } = asked.request;
        const more = { expiresSeconds, terms: this.#terms(asked) };
        return await this.#begin("publish", name, { ...asked, id }, more);
      } catch (error) {
        // Nobody's, unless the same request has come twice, and the other one is under way.
        if (!transfers.find(id)) await exchange.discard(exchange.own(takenFile(id)));
        throw error;
      }
    });
  }

  /** Fetches what a reference names, as `POST /v1/fetches` does. */
  async fetch(body: unknown): Promise<AgentTransfer> {
    const asked = parseFetch(body);
    const { ref, to, overwrite, expiresSeconds } = asked.request;
    const known = this.#same("fetch", ref.name, asked);
    if (known) return known;
    const { exchange } = this.parts;
    const place = to === undefined ? undefined : await exchange.target(to);
    if (place && !overwrite) await place.refuseTaken();
    if (!place && asked.id !== undefined) await exchange.refuseFetched(asked.id);
    return this.#begin("fetch", ref.name, asked, { expiresSeconds });
  }

  /** Sends a file to a peer, as `POST /v1/sends` does. */
  async send(body: unknown): Promise<AgentTransfer> {
    const asked = parseSend(body);
    const { path, to } = asked.request;
    const name = new URL(checkDestination(to)).host;
    const known = this.#same("send", name, asked);
    if (known) return known;
    await this.parts.exchange.source(path);
    return this.#begin("send", name, asked, { terms: this.#terms(asked) });
  }

  #terms({ request }: Asked<Encoding>): Terms {
    return termsFor(request, this.options);
  }

  #same(kind: TransferKind, name: string, { id, request }: Asked<object>): AgentTransfer | undefined {
    return this.parts.transfers.same({ id, kind, name, request });
  }

  /** The transfer may be forgotten, and its model be here; and there is a place for one more. */
  #checkPlace({ id }: Asked<object>): void {
    const { store, home } = this.parts;
    if (id !== undefined && store.has(id)) throw takenError(id);
    if (!home) store.checkRoom(id);
  }

  #begin(
    kind: TransferKind,
    name: string,
    { id, request }: Asked<object>,
    { expiresSeconds, terms }: { readonly expiresSeconds?: number | undefined; readonly terms?: Terms },
  ): Promise<AgentTransfer> {
    const { transfers, deeds, keepMs } = this.parts;
    const lifetimeMs = expiresSeconds === undefined ? keepMs : expiresSeconds * 1000;
    return transfers.begin({ id, kind, name, request, terms, lifetimeMs }, deeds[kind]);
  }

  /** One of its transfers. @throws TensorwireError `NOT_FOUND`. */
  transfer(id: string): AgentTransfer {
    return this.parts.transfers.get(id);
  }

  /** Cancels a transfer, and frees what it fetched. */
  async remove(id: string): Promise<object> {
    const { transfers } = this.parts;
    return transferJson(await transfers.remove(transfers.get(id)));
  }

  /** Frees what is published under a name; gives how many models that were. */
  async free(name: string, transfer: string | undefined): Promise<number> {
    const { home, store, transfers } = this.parts;
    if (transfer !== undefined) checkTransferId(transfer);
    if (!home) return store.free(name, transfer);
    const known = transfers.all
      .map(({ record }) => record)
      .filter((record) => record.kind === "publish" && record.name === name && record.ref !== undefined)
      .map(({ id }) => id);
    let freed = 0;
    for (const id of transfer === undefined ? known : [transfer]) if (await home.free(name, id)) freed++;
    return freed;
  }

  /** Takes no more requests. What is under way goes on when an agent has its directory again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#local?.close();
    await this.#stopSweeping();
    await this.parts.transfers.close();
    await this.#peers?.close();
    for (const lock of this.parts.locks) await lock.release();
  }
}

/** What an agent is made of. */
interface AgentParts {
  readonly exchange: Exchange;
  /** Of the exchange directory. */
  readonly identity: string;
  readonly store: ModelStore;
  readonly transfers: TransferList;
  readonly home: Home | undefined;
  readonly deeds: Deeds;
  readonly locks: readonly Lock[];
  readonly keepMs: number;
  readonly tell: TellAgent;
}

/**
 * Starts an agent.
 * @throws TensorwireError `INVALID_ARGUMENT`, `TARGET_BUSY` where another one has its directory, `TARGET_FULL` where the exchange
 * directory has too little room, `FORBIDDEN` where it is another user's, `TARGET_WRITE`, `CHANNEL_OPEN`.
 * @example
 * const agent = await createAgent({ directory: "agent", home: "wss://server:9000", dial: { token } });
 */
export function createAgent(options: AgentOptions): Promise<Agent> {
  return Agent.open(options);
}
