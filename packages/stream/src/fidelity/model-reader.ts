import {
  asTensorwireError,
  BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type Loan,
  type Manifest,
  type ModelInfo,
  quote,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";
import { type ResolvedOptions, resolveChunkBytes, resolveOptions, type TransferOptions } from "../options.js";
import { inChunk } from "../session/chunk-fault.js";
import { TransferLife } from "../session/transfer.js";
import { decodedArtifact, isDecodedArtifact } from "../source/decoded.js";
import { openSource } from "../source/open.js";
import {
  type EncodedRecord,
  type EncodedSource,
  isEncodedSource,
  isModelSource,
  type ModelSource,
  READ_AHEAD_BYTES,
} from "../source/source.js";
import type { SourceLike } from "../source/open.js";

/** How a model is read that goes nowhere. */
export interface ReadingOptions
  extends Pick<TransferOptions, "windowBytes" | "signal" | "limits" | "backend" | "registry"> {
  /** Bytes of a chunk. Default 4 MiB; an artifact is read in its own chunks. */
  readonly chunkBytes?: number | undefined;
}

/** A model that is read chunk by chunk, decoded where it is an artifact, by whoever gives each loan back. */
export class ModelReader {
  readonly #pool: BufferPool;
  readonly #life: TransferLife;

  private constructor(
    readonly info: ModelInfo,
    readonly plan: ChunkPlan,
    /** Whether its tensors can be read in any order: what the caller's code yields cannot. */
    readonly anyOrder: boolean,
    readonly settings: ResolvedOptions,
    private readonly source: ModelSource,
    private readonly travelled: TravelledBytes | undefined,
    signal: AbortSignal | undefined,
  ) {
    // Of an artifact's largest chunk both the payload and what it decodes to.
    this.#pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES), settings.alignment);
    this.#life = new TransferLife(signal);
  }

  /** @throws TensorwireError as opening the source does, and `INVALID_ARGUMENT` for what is no model. */
  static async open(given: SourceLike, options: ReadingOptions): Promise<ModelReader> {
    const { windowBytes, limits, backend, registry, chunkBytes, signal } = options;
    const settings = await resolveOptions({ windowBytes, limits, backend, registry });
    const found = await openSource(given, {}, settings);
    const travelled = isEncodedSource(found) ? new TravelledBytes(found) : undefined;
    const source = travelled ? decodedArtifact(travelled, settings) : (found as ModelSource);
    try {
      const info = await source.open();
      if (info.kind === "raw") {
        throw new TensorwireError(
          "INVALID_ARGUMENT",
          `${quote(source.name)} is no model: its bytes have no meaning here`,
        );
      }
      const fixed = isDecodedArtifact(source) ? source.chunkBytes : (source.chunkBytes ?? chunkBytes);
      const size = resolveChunkBytes(fixed, settings.windowBytes, settings.limits.maxChunkBytes);
      const anyOrder = !isModelSource(given) || travelled !== undefined;
      const plan = new ChunkPlan(info.tensors, size);
      const reader = new ModelReader(info, plan, anyOrder, settings, source, travelled, signal);
      // It may have been aborted meanwhile, or before.
      if (reader.#life.error) throw reader.#life.error;
      return reader;
    } catch (error) {
      await source.close();
      throw asTensorwireError(error, "INTERNAL");
    }
  }

  /** For messages. */
  get name(): string {
    return this.source.name;
  }

  /** The chunks that will be read, for sources that fetch ahead. */
  want(runs: readonly ChunkRange[]): void {
    this.source.want?.(runs);
  }

  async read(chunk: Chunk): Promise<Loan> {
    if (this.#life.error) throw this.#life.error;
    try {
      const reading = this.source.read(chunk, this.#pool);
      return reading instanceof Promise ? await this.#life.borrow(reading, (loan) => loan) : reading;
    } catch (error) {
      throw inChunk(asTensorwireError(error, "SOURCE_READ", this.name), this.info, chunk);
    }
  }

  /**
   * Bytes that a tensor takes: in a plain model those of its elements, in an artifact those of its payloads, which are
   * known once its chunks have been read.
   */
  storedBytes(tensor: number): number {
    if (!this.travelled) return tensorBytes(this.info.tensors[tensor]!);
    return this.travelled.bytes.get(tensor) ?? 0;
  }

  /** Loans that are out. */
  get loans(): number {
    return this.#pool.loans;
  }

  /** Everything is read. @throws TensorwireError `SOURCE_CHANGED` where the model changed meanwhile. */
  async verify(): Promise<void> {
    await this.source.verify?.();
  }

  async close(): Promise<void> {
    this.#life.end();
    await this.source.close();
  }
}

/** An encoded source, and how many bytes of each tensor came from it. */
class TravelledBytes implements EncodedSource {
  readonly name: string;
  readonly bytes = new Map<number, number>();

  constructor(private readonly source: EncodedSource) {
    this.name = source.name;
  }

  open(): Promise<Manifest> {
    return this.source.open();
  }

  want(runs: readonly ChunkRange[]): void {
    this.source.want?.(runs);
  }

  async readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    const read = await this.source.readEncoded(chunk, pool);
    this.bytes.set(chunk.tensor, (this.bytes.get(chunk.tensor) ?? 0) + read.loan.bytes.length);
    return read;
  }

  async verify(): Promise<void> {
    await this.source.verify?.();
  }

  close(): Promise<void> {
    return this.source.close();
  }
}
