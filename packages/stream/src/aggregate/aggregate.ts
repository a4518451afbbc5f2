import {
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type Loan,
  type ModelInfo,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { resolveOptions } from "../options.js";
import { joinedToken } from "../source/file-version.js";
import { isEncodedSource, isModelSource, type ModelSource, type SourceMemory } from "../source/source.js";
import { AggregateMemory } from "./aggregate-memory.js";
import { type AggregateOptions, type AggregateRule, aggregateRule } from "./aggregate-options.js";
import type { AggregateReport } from "./aggregate-report.js";
import { agreeOnBase, agreeOnChunks, agreeOnTensors, commonMetadata } from "./agreement.js";
import type { ChunkRule } from "./chunk-rule.js";
import { type ClientSource, type ClientSources, clientList } from "./client-list.js";
import { ClientModel, sourceOf } from "./client-model.js";
import { clientWeights } from "./client-weights.js";
import { LookThrough } from "./look-through.js";
import { type Admission, admission } from "./admission.js";
import { tensorRules } from "./tensor-rules.js";

/** Models of clients as one. */
export interface AggregateSource extends ModelSource {
  readonly oneShot: boolean;
  /** Who is in it, and who is not. Known once it is open. */
  readonly report: AggregateReport | undefined;
}

/**
 * The models of many clients as one: their weighted mean, or what `method` says, chunk by chunk. It takes the memory of one
 * sum and one payload, however many clients there are and however large their models; the robust methods take a decoded chunk
 * of each. Clients are summed in the order of their ids, so that the same models give the same bytes, whoever came first.
 *
 * Clients have the same tensors (names, dtypes, shapes), in any order; artifacts among them the same chunk size. One with
 * values that are not finite is left out before the first chunk, and `report` says so.
 * @throws TensorwireError `INVALID_ARGUMENT` here for the options; as a source `SOURCE_MISMATCH` for models that do not belong
 * together, `VALUE_NOT_FINITE`, and what reading them throws, each with the client's id.
 * @example
 * const mean = aggregate({ ada: "ada.twire", bob: "bob.twire" });
 * await streamModel(mean, "round-8.twire", { codec: "float16" });
 */
export function aggregate(sources: ClientSources, options: AggregateOptions = {}): AggregateSource {
  return new Aggregate(clientList(sources), aggregateRule(options), options);
}

/** What the algorithm is called in a version token: another one makes other bytes of the same models. */
const ALGORITHM = "aggregate 1";

class Aggregate implements AggregateSource {
  readonly name: string;
  readonly oneShot: boolean;
  readonly #clients: ClientModel[] = [];
  #admission: Admission | undefined;
  #rules: readonly ChunkRule[] = [];
  #memory: AggregateMemory | undefined;
  /** Where chunks are what they are. */
  #plan: ChunkPlan | undefined;
  #version: string | undefined;
  /** So many of those that were given were opened, or failed to: who comes after them is still to be closed. */
  #begun = 0;
  #closed = false;
  /** What was asked for last. */
  #reading: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly given: readonly ClientSource[],
    private readonly rule: AggregateRule,
    private readonly options: AggregateOptions,
  ) {
    this.name = `the aggregate of ${given.length} ${given.length === 1 ? "client" : "clients"}`;
    // Asked before it is open, by whoever would try again.
    this.oneShot = given.some(
      ({ source }) => isModelSource(source) && !isEncodedSource(source) && source.oneShot === true,
    );
  }

  get report(): AggregateReport | undefined {
    return this.#admission?.report;
  }

  get version(): string | undefined {
    return this.#version;
  }

  get chunkBytes(): number | undefined {
    return this.#plan?.chunkBytes;
  }

  /** What is not finite is left out, or an error. */
  get finite(): boolean | undefined {
    return this.#admission && true;
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.#memory!.taken(plan, this.#taken);
  }

  get #taken(): readonly ClientModel[] {
    return this.#admission!.parts.map(({ client }) => client);
  }

  async open(): Promise<ModelInfo> {
    const { limits, backend, registry } = this.options;
    const settings = await resolveOptions({ limits, backend, registry });
    for (const client of this.given) {
      this.#goesOn();
      this.#begun++;
      const opened = await ClientModel.open(client, settings);
      this.#clients.push(opened);
      // Whoever closed the aggregate meanwhile did not know of it.
      if (this.#closed) await opened.close();
    }
    this.#goesOn();
    const clients = this.#clients;
    const tensors = agreeOnTensors(clients);
    agreeOnBase(clients);
    const chunkBytes = agreeOnChunks(clients);
    if (chunkBytes !== undefined) this.#plan = new ChunkPlan(tensors, chunkBytes);
    const memory = new AggregateMemory(this.rule, tensors, clients.length, settings.alignment);
    this.#memory = memory;
    const weights = clientWeights(clients, this.rule);
    const lookThrough = new LookThrough({
      ...{ tensors, rule: this.rule, readAhead: memory.readAhead, alignment: settings.alignment },
      chunkBytes,
      goesOn: () => this.#goesOn(),
    });
    try {
      this.#admission = await admission(clients, weights, this.rule, lookThrough);
    } finally {
      lookThrough.end();
    }
    const { parts, notice } = this.#admission;
    this.#rules = tensorRules({ tensors, parts, notice, rule: this.rule, memory, backend: settings.backend });
    this.#version = this.#token(weights.weights);
    const taken = this.#taken;
    for (const client of clients) if (!taken.includes(client)) await client.close();
    return { kind: "model", tensors, metadata: commonMetadata(taken) };
  }

  #token(weights: readonly (number | undefined)[]): string | undefined {
    const versions = this.#clients.map(({ version }) => version);
    if (versions.includes(undefined)) return undefined;
    const taken = this.#taken;
    const clients = this.#clients.map((client, i) => [
      client.id,
      versions[i],
      weights[i],
      taken.includes(client),
    ]);
    const { weights: _, ...rule } = this.rule;
    return joinedToken(ALGORITHM, JSON.stringify(rule), JSON.stringify(clients));
  }

  want(runs: readonly ChunkRange[]): void {
    for (const client of this.#taken) client.want(runs, this.#plan);
  }

  read(chunk: Chunk, pool: BufferPool): Promise<Loan> {
    const reading = this.#read(chunk, pool);
    this.#reading = reading;
    return reading;
  }

  async #read(chunk: Chunk, pool: BufferPool): Promise<Loan> {
    this.#goesOn();
    const { readAhead } = this.#memory!;
    readAhead.beyond = pool;
    const target = pool.lend(chunk.bytes);
    try {
      await this.#rules[chunk.tensor]!.combine(chunk, readAhead, target.bytes);
      this.#goesOn();
      return target;
    } catch (error) {
      target.release();
      throw error;
    }
  }

  #goesOn(): void {
    const { signal } = this.options;
    if (!this.#closed && !signal?.aborted) return;
    const what = this.#closed ? "was closed" : "was aborted";
    throw new TensorwireError("ABORTED", `${quote(this.name)} ${what}`, { cause: signal?.reason });
  }

  async verify(): Promise<void> {
    for (const client of this.#taken) await client.verify();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const unopened = this.given.slice(this.#begun).map(({ source }) => sourceOf(source));
    const closing = await Promise.allSettled([...this.#clients, ...unopened].map((each) => each?.close()));
    // A job of a backend that is under way has loans, and writes to the sums: neither goes before it is done. Only of what the
    // caller's code yields nobody knows when that is.
    const free = (): void => this.#memory?.free();
    const idle = this.#reading.then(free, free);
    if (!this.oneShot) await idle;
    for (const result of closing) if (result.status === "rejected") throw result.reason;
  }
}
