import {
  type Answer,
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type Loan,
  type Manifest,
  type ModelInfo,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { resolveOptions } from "../options.js";
import { joinedToken } from "../source/file-version.js";
import { openSource } from "../source/open.js";
import {
  type ChunkLoans,
  type EncodedRecord,
  type EncodedSource,
  isEncodedSource,
  isModelSource,
  type ModelSource,
  type SourceMemory,
} from "../source/source.js";
import type { SourceLike } from "../source/open.js";
import { mappedRuns } from "./chunk-runs.js";
import { type Computed, type ComputeOptions, Input, nameOf } from "./input.js";

/** A tensor of a view: its place in the model that is viewed, and what it is called here. */
export interface ViewedTensor {
  readonly place: number;
  readonly name: string;
}

/** What a view has of a model's tensors, in the model's order. */
export type Viewing = (tensors: readonly TensorInfo[], owner: string) => readonly ViewedTensor[];

/** What a view is: of an artifact, which a path may name, it has the chunks as they are, encoded. */
export type View<S> = S extends string
  ? ModelSource | EncodedSource
  : S extends EncodedSource
    ? EncodedSource
    : Computed<S>;

/**
 * A model with some of another's tensors, or with other names for them: the elements are the other's, and, of an artifact,
 * its payloads. The file's own header is of other tensors, and is left out.
 * @param kind What makes it another model than the one that is viewed; part of the version token.
 */
export function viewOf(
  given: SourceLike,
  kind: string,
  viewing: Viewing,
  options: ComputeOptions = {},
): ModelSource | EncodedSource {
  const encoded =
    typeof given === "string" ? given.endsWith(".twire") : isModelSource(given) && isEncodedSource(given);
  if (encoded) return new ArtifactView(given as string | EncodedSource, kind, viewing, options);
  return new ModelView(given, kind, viewing, options);
}

function viewToken(
  version: string | undefined,
  kind: string,
  tensors: readonly TensorInfo[] | undefined,
): string | undefined {
  return version && tensors && joinedToken(version, kind, JSON.stringify(tensors.map(({ name }) => name)));
}

/** What is not finite can be in a tensor that is not viewed. */
function finiteToo(whole: boolean | undefined): true | undefined {
  return whole || undefined;
}

class ModelView implements ModelSource {
  readonly name: string;
  readonly #input: Input;
  #tensors: readonly TensorInfo[] | undefined;
  #places: readonly number[] = [];

  constructor(
    given: SourceLike,
    private readonly kind: string,
    private readonly viewing: Viewing,
    options: ComputeOptions,
  ) {
    this.#input = new Input(given, options);
    this.name = this.#input.name;
  }

  get version(): string | undefined {
    return viewToken(this.#input.version, this.kind, this.#tensors);
  }

  get oneShot(): boolean {
    return this.#input.oneShot;
  }

  get chunkBytes(): number | undefined {
    return this.#input.chunkBytes;
  }

  get finite(): true | undefined {
    return finiteToo(this.#input.finite);
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.#input.memory(plan);
  }

  async open(): Promise<ModelInfo> {
    const { kind, tensors, metadata } = await this.#input.open();
    const viewed = this.viewing(tensors, this.name);
    this.#places = viewed.map(({ place }) => place);
    this.#tensors = viewed.map(({ place, name }) => ({ ...tensors[place]!, name }));
    return { kind, tensors: this.#tensors, metadata };
  }

  want(runs: readonly ChunkRange[]): void {
    const { plan } = this.#input;
    if (!plan || !this.#tensors) return;
    this.#input.want(runs, new ChunkPlan(this.#tensors, plan.chunkBytes), this.#places);
  }

  read(chunk: Chunk, pool: BufferPool): Answer<Loan> {
    return this.#input.read(chunk, this.#places[chunk.tensor]!, pool);
  }

  verify(): Promise<void> {
    return this.#input.verify();
  }

  close(): Promise<void> {
    return this.#input.close();
  }
}

class ArtifactView implements EncodedSource {
  readonly name: string;
  #source: EncodedSource | undefined;
  #manifest: Manifest | undefined;
  /** Of the view, and of what is viewed. */
  #plan: ChunkPlan | undefined;
  #viewed: ChunkPlan | undefined;
  #places: readonly number[] = [];
  #closed = false;

  constructor(
    private readonly given: string | EncodedSource,
    private readonly kind: string,
    private readonly viewing: Viewing,
    private readonly options: ComputeOptions,
  ) {
    this.name = nameOf(given);
  }

  get version(): string | undefined {
    return viewToken(this.#source?.version, this.kind, this.#manifest?.tensors);
  }

  get finite(): true | undefined {
    return finiteToo(this.#source?.finite);
  }

  /** Of the chunks that are viewed. */
  memory(plan: ChunkPlan): SourceMemory {
    const { loans, lent, ...memory } = this.#source?.memory?.(plan) ?? { slabs: 1, bytes: 0 };
    const viewed = (all: ChunkLoans) => ({ of: (chunk: Chunk) => all.of(this.#viewedChunk(chunk)) });
    return {
      ...memory,
      loans: loans && { ...loans, ...viewed(loans) },
      lent: lent && { ...lent, ...viewed(lent) },
    };
  }

  /** Of all that is viewed: which tensors they are of is not known. */
  get clamped(): number | undefined {
    return this.#source?.clamped;
  }

  async open(): Promise<Manifest> {
    const source = await this.#open();
    const { header: _, ...manifest } = await source.open();
    if (manifest.kind === "raw") {
      const message = `${quote(this.name)} is no model: its bytes have no tensors to choose from`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const viewed = this.viewing(manifest.tensors, this.name);
    const tensors = viewed.map(({ place, name }) => ({ ...manifest.tensors[place]!, name }));
    this.#places = viewed.map(({ place }) => place);
    this.#plan = new ChunkPlan(tensors, manifest.chunkBytes);
    this.#viewed = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    this.#manifest = { ...manifest, tensors };
    return this.#manifest;
  }

  async #open(): Promise<EncodedSource> {
    const { limits, backend, registry } = this.options;
    const found = await openSource(this.given, {}, await resolveOptions({ limits, backend, registry }));
    if (!isEncodedSource(found)) {
      throw new TensorwireError(
        "SOURCE_INVALID",
        `${quote(this.name)} is named like an artifact, and is none`,
      );
    }
    this.#source = found;
    return found;
  }

  want(runs: readonly ChunkRange[]): void {
    if (!this.#plan || !this.#source?.want) return;
    // Views keep the order of what they are of.
    this.#source.want(mappedRuns(runs, this.#plan, this.#viewed!, this.#places)!);
  }

  readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    return this.#source!.readEncoded(this.#viewedChunk(chunk), pool);
  }

  #viewedChunk(chunk: Chunk): Chunk {
    const tensor = this.#places[chunk.tensor]!;
    return { ...chunk, tensor, ordinal: this.#viewed!.range(tensor).first + chunk.index };
  }

  async verify(): Promise<void> {
    await this.#source?.verify?.();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await (this.#source ?? (typeof this.given === "string" ? undefined : this.given))?.close();
  }
}
