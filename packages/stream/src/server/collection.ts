import { EventEmitter } from "node:events";
import { quote, TensorwireError } from "@tensorwire/core";
import type { MemoryBudget } from "../budget/memory-budget.js";
import { deferred } from "../session/deferred.js";
import type { TransferSummary } from "../session/summary.js";
import { abortError } from "../session/transfer.js";
import { Arrival, type ClientStatus } from "./arrival.js";
import type { CollectOptions, CollectTerms } from "./collect-options.js";
import type { CollectedModel } from "./collected-model.js";
import { Deadline } from "./deadline.js";
import type { ServedPeer } from "./reception.js";
import type { RoundFolder } from "./round-folder.js";
import { sourceBytes, type TransferOfPeer, type TransferTerms } from "./served-transfer.js";

/** How a round stands. */
export interface CollectionStatus {
  /** Its name. */
  readonly round: string;
  /** How far it has got. */
  readonly state: "open" | "complete" | "failed";
  /** How many are expected. */
  readonly expect: number;
  /** How many are enough at the deadline. */
  readonly quorum: number;
  /** When it closes with whoever is there; `undefined` where it waits for all. */
  readonly deadline: Date | undefined;
  /** How many have arrived. */
  readonly arrived: number;
  /** In the order of their names. */
  readonly clients: readonly ClientStatus[];
}

/** What a round tells of its clients. */
export interface CollectionEvents {
  /** A client's model is here, whole. */
  arrived: [CollectedModel];
  /** An upload has ended otherwise. The client may come back, as long as the round is open. */
  failed: [{ readonly client: string; readonly error: TensorwireError }];
}

/** What a round is made of. */
export interface CollectionParts {
  readonly folder: RoundFolder;
  /** What its uploads take theirs from. */
  readonly memory: MemoryBudget;
  /** Peers say by a credential who they are. */
  readonly named: boolean;
}

/** So many clients are remembered of which there is nothing but that they failed: names can be strangers' words. */
const MAX_FAILED = 1024;

/**
 * The updates of a round's clients, on their way in: each is kept as the artifact that it is. It ends when all have arrived, or
 * at its deadline with whoever has.
 * @example
 * const round = await server.collect("round-7", { expect: 16, quorum: 12, deadline: 600_000, model: "model.safetensors" });
 * round.on("failed", ({ client, error }) => console.log(client, error.code));
 * console.log(round.status().state); // open
 */
export class Collection extends EventEmitter<CollectionEvents> {
  readonly #done = deferred<CollectedModel[]>();
  readonly #clients = new Map<string, Arrival>();
  readonly #deadline: Deadline;
  #state: CollectionStatus["state"] = "open";
  /** Why no uploads are taken any more. */
  #over: string | undefined;
  #ending: Promise<void> | undefined;

  /** @internal */
  constructor(
    /** Its name. */
    readonly round: string,
    private readonly options: CollectOptions,
    private readonly terms: CollectTerms,
    private readonly parts: CollectionParts,
  ) {
    super();
    const { folder } = parts;
    for (const model of folder.found) this.#arrival(model.client).model = model;
    for (const client of folder.begun) this.#arrival(client).left = true;
    this.#deadline = new Deadline(terms.deadline ?? Number.POSITIVE_INFINITY, () => {
      void this.#end("its deadline has passed");
    });
    this.#look();
  }

  /**
   * Resolves with the models that have arrived, in the order of their clients' names: when all that were expected are here, or at
   * the deadline with a quorum of them. Rejects with `QUORUM_MISSED`, and with `ABORTED` where it was closed before.
   */
  get done(): Promise<CollectedModel[]> {
    return this.#done.promise;
  }

  /** Who has arrived, who is at what part of the way, who has failed and why. */
  status(): CollectionStatus {
    const { expect, quorum, deadline } = this.terms;
    const clients = [...this.#clients.values()].map((arrival) => arrival.status()).sort(byClient);
    return {
      ...{ round: this.round, state: this.#state, expect, quorum, arrived: this.#arrived.length, clients },
      deadline: deadline === undefined ? undefined : new Date(deadline),
    };
  }

  get #arrived(): CollectedModel[] {
    return [...this.#clients.values()].flatMap(({ model }) => (model ? [model] : [])).sort(byClient);
  }

  /** Takes no more. What has arrived stays, and what is half here: collecting the round again goes on from there. */
  close(reason: unknown = "it was closed"): Promise<void> {
    this.#ending ??= this.#close(reason);
    return this.#ending;
  }

  async #close(reason: unknown): Promise<void> {
    const { message } = reason instanceof Error ? reason : abortError(reason);
    const words = `round ${quote(this.round)} is collected no more: ${message}`;
    await this.#stop(words);
    await this.parts.folder.close();
    this.#state = "failed";
    this.#done.reject(new TensorwireError("ABORTED", words, { cause: reason }));
  }

  /** It is over, with whoever has arrived. */
  #end(why: string): Promise<void> {
    this.#ending ??= this.#conclude(why);
    return this.#ending;
  }

  async #conclude(why: string): Promise<void> {
    const left = this.#left();
    await this.#stop(`round ${quote(this.round)} is over: ${why}`);
    await this.parts.folder.clear();
    await this.parts.folder.close();
    const models = this.#arrived;
    if (models.length >= this.terms.quorum) {
      this.#state = "complete";
      return this.#done.resolve(models);
    }
    this.#state = "failed";
    const came = models.map(({ client }) => client).join(", ") || "nobody";
    const message =
      `round ${quote(this.round)} ended with ${models.length} of the ${this.terms.quorum} models that it needs, since ${why}: ` +
      `${came} arrived${left}: collect it again, with more time or a smaller quorum`;
    this.#done.reject(new TensorwireError("QUORUM_MISSED", message));
  }

  /** Of those who have not arrived, how far they are. */
  #left(): string {
    const others = this.status().clients.filter(({ state }) => state !== "arrived");
    return others
      .slice(0, 10)
      .map(({ client, state, percent, error }) => {
        const why = error ? ` (${error.message})` : "";
        return `, ${quote(client)} ${state === "failed" ? "failed" : `was at ${Math.floor(percent)}%`}${why}`;
      })
      .join("");
  }

  async #stop(words: string): Promise<void> {
    this.#over = words;
    this.#deadline.clear();
    const reason = new TensorwireError("ABORTED", words);
    await Promise.all([...this.#clients.values()].map((arrival) => arrival.cut(reason)));
  }

  /**
   * Takes a client's upload.
   * @internal
   * @throws TensorwireError `FORBIDDEN` where the round is over, or is not the client's.
   */
  receive(transfer: TransferOfPeer, terms: TransferTerms): Promise<TransferSummary> {
    if (this.#over !== undefined) throw new TensorwireError("FORBIDDEN", this.#over);
    const client = this.#clientOf(transfer);
    const arrival = this.#arrival(client);
    const budget = this.parts.memory;
    const own = { ...terms, options: { ...terms.options, budget } };
    const done = arrival.receive(transfer, own, async (manifest) => {
      transfer.seat.load(sourceBytes(manifest));
      this.parts.folder.check(client, manifest);
      if (arrival.model && this.options.duplicate !== "replace") return this.parts.folder.again(client);
      return this.parts.folder.sink(client, manifest, (model) => {
        arrival.model = model;
        this.#tell("arrived", model);
      });
    });
    const over = (error?: TensorwireError): void => {
      if (error && !arrival.model) this.#tell("failed", { client, error });
      // Not before its client knows that it has arrived.
      this.#look();
    };
    done.then(() => over(), over);
    return done;
  }

  /** @throws TensorwireError `FORBIDDEN`. */
  #clientOf({ name, peer }: TransferOfPeer): string {
    const segment = name.slice(this.round.length + 1);
    const client = this.options.clientOf?.(peer, segment) ?? this.#nameOf(peer, segment);
    this.parts.folder.checkClient(client);
    const { clients } = this.terms;
    if (!clients || clients.has(client)) return client;
    throw new TensorwireError(
      "FORBIDDEN",
      `${quote(client)} is not among the clients of round ${quote(this.round)}`,
    );
  }

  #nameOf({ principal }: ServedPeer, segment: string): string {
    return (this.parts.named && principal?.name) || segment;
  }

  #arrival(client: string): Arrival {
    let arrival = this.#clients.get(client);
    if (!arrival) {
      const failed = [...this.#clients.values()].filter(({ forgettable }) => forgettable);
      if (failed.length >= MAX_FAILED) this.#clients.delete(failed[0]!.client);
      arrival = new Arrival(client);
      this.#clients.set(client, arrival);
    }
    return arrival;
  }

  #look(): void {
    if (this.#arrived.length >= this.terms.expect) void this.#end("everybody has arrived");
  }

  /** Whoever listens may throw: that is not the round's affair. */
  #tell<K extends keyof CollectionEvents>(event: K, ...what: CollectionEvents[K]): void {
    process.nextTick(() => this.emit(event, ...(what as never)));
  }
}

function byClient(a: { readonly client: string }, b: { readonly client: string }): number {
  return a.client < b.client ? -1 : a.client > b.client ? 1 : 0;
}
