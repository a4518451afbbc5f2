import {
  type Answer,
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type CodecBackend,
  type Loan,
  type ModelInfo,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { resolveOptions, type TransferOptions } from "../options.js";
import { decodedArtifact } from "../source/decoded.js";
import { openSource } from "../source/open.js";
import {
  isEncodedSource,
  isModelSource,
  type ModelSource,
  type OneShotSource,
  type SourceMemory,
} from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { mappedRuns } from "./chunk-runs.js";

/** How the models are read that a source is computed from. */
export type ComputeOptions = Pick<TransferOptions, "limits" | "backend" | "registry">;

/** What is computed of sources: if one of them can be read only once, so can that. */
export type Computed<S> = [Extract<S, OneShotSource>] extends [never] ? ModelSource : OneShotSource;

/** What a model is called in messages. */
export function nameOf(given: SourceLike): string {
  if (typeof given === "string") return given;
  return isModelSource(given) ? given.name : "tensors in memory";
}

/** Sources that are read by an input: each by one, which closes it. */
const taken = new WeakSet<object>();

/** A model that a computed source reads, decoded where it is an artifact: opened at most once, closed once. */
export class Input {
  readonly name: string;
  #source: ModelSource | undefined;
  #info: ModelInfo | undefined;
  /** Of a model that is read in its own chunks only. */
  #plan: ChunkPlan | undefined;
  #backend: CodecBackend | undefined;
  #takes = false;
  #refused = false;
  #closed = false;

  constructor(
    private readonly given: SourceLike,
    private readonly options: ComputeOptions = {},
  ) {
    this.name = nameOf(given);
  }

  /** @throws TensorwireError as opening the model does, and `INVALID_ARGUMENT` where it is no model, but bytes. */
  async open(): Promise<ModelInfo> {
    this.#take();
    const { limits, backend, registry } = this.options;
    const settings = await resolveOptions({ limits, backend, registry });
    this.#backend = settings.backend;
    const found = await openSource(this.given, {}, settings);
    if (this.#closed)
      throw new TensorwireError("ABORTED", `${quote(this.name)} was closed while it was opened`);
    this.#source = isEncodedSource(found) ? decodedArtifact(found, settings) : found;
    this.#info = await this.#source.open();
    if (this.#info.kind === "raw") {
      const message = `${quote(this.name)} is no model: of its bytes nothing can be computed`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const { chunkBytes } = this.#source;
    if (chunkBytes !== undefined) this.#plan = new ChunkPlan(this.#info.tensors, chunkBytes);
    return this.#info;
  }

  #take(): void {
    if (!isModelSource(this.given)) return;
    this.#refused = taken.has(this.given);
    if (this.#refused) {
      const message = `${quote(this.name)} is one source in two places, each of which would read and close it: make another`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    taken.add(this.given);
    this.#takes = true;
  }

  get info(): ModelInfo {
    if (this.#info) return this.#info;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} is not open`);
  }

  /** What its elements are converted by. */
  get backend(): CodecBackend {
    return this.#backend!;
  }

  /** The only chunk size that it can be read in, where there is one. Known once it is open, as all that follows. */
  get chunkBytes(): number | undefined {
    return this.#plan?.chunkBytes;
  }

  get plan(): ChunkPlan | undefined {
    return this.#plan;
  }

  get version(): string | undefined {
    return this.#source?.version;
  }

  get finite(): boolean | undefined {
    return this.#source?.finite;
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.#source?.memory?.(plan) ?? { slabs: 1, bytes: 0 };
  }

  /** Known before it is open. */
  get oneShot(): boolean {
    const { given } = this;
    return isModelSource(given) && !isEncodedSource(given) && given.oneShot === true;
  }

  /** Elements of `tensor`, in the place where `chunk`, of another plan and the same dtype, has its own. */
  read(chunk: Chunk, tensor: number, pool: BufferPool): Answer<Loan> {
    // Who can be read in any chunks goes by their place in the tensor: there is no plan to number them by.
    const ordinal = this.#plan ? this.#plan.range(tensor).first + chunk.index : chunk.ordinal;
    return this.#source!.read({ ...chunk, tensor, ordinal }, pool);
  }

  /**
   * Says what will be asked for, by runs of `plan`, whose tensor `i` is its own `places[i]`. Only where both are read in
   * the same order: who fetches ahead fetches in its own.
   */
  want(runs: readonly ChunkRange[], plan: ChunkPlan, places: readonly (number | undefined)[]): void {
    if (!this.#plan || !this.#source?.want) return;
    const own = mappedRuns(runs, plan, this.#plan, places);
    if (own) this.#source.want(own);
  }

  async verify(): Promise<void> {
    await this.#source?.verify?.();
  }

  async close(): Promise<void> {
    if (this.#closed || this.#refused) return;
    this.#closed = true;
    const { given } = this;
    if (this.#takes) taken.delete(given as object);
    // What the caller gave away is closed even if it was never opened.
    await (this.#source ?? (isModelSource(given) ? given : undefined))?.close();
  }
}
