import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  aggregate,
  apply,
  type CollectedModel,
  createModelServer,
  type ModelServer,
  type ModelServerOptions,
  type ModelSource,
  receiveModel,
  type ServedPeer,
  TensorwireError,
  tensorsSource,
  transferModel,
} from "@tensorwire/stream";
import {
  type Base,
  MIN_ELEMENTS,
  MODEL,
  metadataOf,
  type Position,
  roundName,
  type Updates,
} from "./agreement.js";
import { Classifier, type Score } from "./classifier.js";
import type { Digits } from "./digits.js";

export interface CoordinatorOptions {
  /** Where the models and updates of all rounds are kept: a server that is started again goes on from there. */
  readonly folder: string;
  /** Where it listens, with which certificate, and whom it lets in. */
  readonly place: Pick<ModelServerOptions, "url" | "tls" | "authorize">;
  /** Names of the clients, as their tokens have them. */
  readonly clients: readonly string[];
  /** A round that has the updates of so many clients at its deadline does without the others. */
  readonly quorum: number;
  readonly deadlineMs: number;
  readonly rounds: number;
  /** Of the model that goes out. */
  readonly codec: string;
  readonly updates: Updates;
  readonly base: Base;
  /** Of the first model's weights. */
  readonly seed: number;
}

/** How good the model of a round is, and whose updates have made it. */
export interface RoundResult extends Score {
  readonly round: number;
  readonly clients: readonly string[];
}

/** Of every round's model, as it is; of the published one, encoded; of every round's updates. */
const FOLDERS = ["models", "spool", "updates"];

const FILE = /^round-(\d+)\.twire$/;

/** The server's side: a model goes out, updates come in, and their weighted mean makes the next model. */
export class Coordinator {
  readonly #classifier: Classifier;
  /** Every client has the last model. */
  #delivered: Promise<void> | undefined;

  private constructor(
    private readonly options: CoordinatorOptions,
    private readonly server: ModelServer,
  ) {
    this.#classifier = new Classifier(options.seed);
  }

  static async open(options: CoordinatorOptions): Promise<Coordinator> {
    for (const name of FOLDERS) await mkdir(join(options.folder, name), { recursive: true });
    return new Coordinator(options, await createModelServer(options.place));
  }

  /** What clients find it by. */
  get url(): string {
    return this.server.url;
  }

  /** From the first round, or from the one that a server before this one was in. */
  async *rounds(test: Digits): AsyncGenerator<RoundResult> {
    const { rounds, clients } = this.options;
    for (let round = 1 + (await this.#completeRounds()); round <= rounds; round++) {
      const taken = await this.#round(round);
      await this.#classifier.load(receiveModel(this.#model(round)));
      yield { round, clients: taken, ...(await this.#classifier.evaluate(test)) };
    }
    // From before it is there: the first client may have it before the call is over.
    this.#delivered = fetchedByAll(this.server, clients);
    await this.#publish(rounds);
  }

  /** How many rounds there were; there is a model of them, if only the first one. */
  async #completeRounds(): Promise<number> {
    const names = await readdir(join(this.options.folder, "models"));
    const complete = names.flatMap((name) => FILE.exec(name)?.[1] ?? []).map(Number);
    if (complete.length > 0) return Math.max(...complete);
    const { rounds } = this.options;
    await this.#save({ round: 0, rounds }, tensorsSource(await this.#classifier.weights()));
    return 0;
  }

  /** @returns whose updates have made its model. */
  async #round(round: number): Promise<readonly string[]> {
    const { rounds } = this.options;
    const updates = await this.#collect(round);
    const mean = aggregate(new Map(updates.map(({ client, source }) => [client, source()])));
    await this.#save({ round, rounds }, this.#next(round, mean));
    return mean.report!.taken.map(({ id }) => id);
  }

  /** The model of a round, of what clients have sent. */
  #next(round: number, mean: ModelSource): ModelSource {
    const { updates, base } = this.options;
    if (updates === "model") return mean;
    if (base === "published") return apply(this.server.published(MODEL).artifacts[0]!.path, mean);
    return apply(this.#model(round - 1), mean, { anyBase: true });
  }

  /** Without a quorum at its deadline a round is given as much time again: what has arrived counts. */
  async #collect(round: number): Promise<readonly CollectedModel[]> {
    const { clients: expect, quorum, deadlineMs: deadline } = this.options;
    const folder = join(this.options.folder, "updates");
    const terms = { expect, quorum, deadline, folder, model: this.#model(round - 1) };
    for (;;) {
      // First of all, so that nobody has the model and cannot send the update.
      const collection = await this.server.collect(roundName(round), terms);
      await this.#publish(round - 1);
      try {
        return await collection.done;
      } catch (error) {
        if (!(error instanceof TensorwireError && error.code === "QUORUM_MISSED")) throw error;
      }
    }
  }

  #model(round: number): string {
    return join(this.options.folder, "models", `${roundName(round)}.twire`);
  }

  async #save(position: Position, model: ModelSource): Promise<void> {
    const path = this.#model(position.round);
    await transferModel(labelled(model, metadataOf(position)), path, { overwrite: true });
  }

  /** It is encoded once, for the first client that asks. The same model again is no other version. */
  async #publish(round: number): Promise<void> {
    const { folder, codec } = this.options;
    const spool = join(folder, "spool");
    await this.server.publish(MODEL, this.#model(round), { spool, codec, minElements: MIN_ELEMENTS });
  }

  /** Waits until every client has the last model, a round's deadline at most. */
  async close(): Promise<void> {
    const { deadlineMs } = this.options;
    const late = new AbortController();
    await Promise.race([this.#delivered, sleep(deadlineMs, undefined, { signal: late.signal })]);
    late.abort();
    await this.server.close();
  }
}

/** The same model, with other words about it. */
function labelled(model: ModelSource, metadata: ReadonlyMap<string, string>): ModelSource {
  const { open } = model;
  model.open = async () => ({ ...(await open.call(model)), metadata });
  return model;
}

/** Resolves when each client has the newest version of the model. */
function fetchedByAll(server: ModelServer, clients: readonly string[]): Promise<void> {
  const missing = new Set(clients);
  return new Promise((resolve) => {
    const fetched = ({ principal }: ServedPeer, digest: string): void => {
      const { artifacts } = server.published(MODEL);
      if (artifacts.some((artifact) => artifact.digest === digest)) missing.delete(principal!.name);
      if (missing.size === 0) resolve();
    };
    server.on("transfer", ({ direction, peer, done }) => {
      if (direction === "fetch") done.then((summary) => fetched(peer, summary.digest)).catch(() => {});
    });
  });
}
