import {
  type BufferPool,
  byteLength,
  type Chunk,
  type ChunkPlan,
  chunkElements,
  DTYPE_BITS,
  type DType,
  type Loan,
  MIN_CHUNK_BYTES,
  type ModelInfo,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { resolveOptions } from "../options.js";
import { decodedArtifact } from "./decoded.js";
import { joinedToken } from "./file-version.js";
import type { SourceLike } from "./open.js";
import { openSource } from "./open.js";
import { isEncodedSource, isModelSource, type ModelSource, type SourceMemory } from "./source.js";

/** A run of elements on its way through a conversion. */
export interface ConvertedRun {
  readonly tensor: TensorInfo;
  /** Index of the chunk in its tensor. For messages. */
  readonly chunk: number;
  /** Index of its first element in its tensor. */
  readonly first: number;
  readonly elements: number;
  readonly source: Uint8Array;
  readonly target: Uint8Array;
}

/** A source whose tensors are another source's, converted chunk by chunk as they are read. */
export abstract class ConvertedSource implements ModelSource {
  readonly name: string;
  readonly oneShot: boolean;
  #inner: ModelSource | undefined;
  /** Its own chunks are what they are, and this source's are the same. */
  #chunkBytes: number | undefined;
  #tensors: readonly TensorInfo[] = [];

  constructor(private readonly given: SourceLike) {
    this.name =
      typeof given === "string" ? given : isModelSource(given) ? given.name : "converted tensors in memory";
    this.oneShot = isModelSource(given) && !isEncodedSource(given) && given.oneShot === true;
  }

  /** Everything, besides the other source, that elements depend on. */
  protected abstract readonly parameters: object;

  /** Known once it is open. */
  get chunkBytes(): number | undefined {
    return this.#chunkBytes;
  }

  memory(plan: ChunkPlan): SourceMemory {
    const { slabs, bytes } = this.#inner?.memory?.(plan) ?? { slabs: 1, bytes: 0 };
    return { slabs: slabs + 1, bytes };
  }

  get version(): string | undefined {
    const version = this.#inner?.version;
    return version && joinedToken(version, JSON.stringify(this.parameters));
  }

  /** The dtype that the tensor gets. @throws TensorwireError `INVALID_ARGUMENT` for one that is not converted. */
  protected abstract dtypeOf(tensor: TensorInfo): DType;

  protected abstract convert(run: ConvertedRun): void;

  async open(): Promise<ModelInfo> {
    const settings = await resolveOptions({});
    const found = await openSource(this.given, {}, settings);
    const source = isEncodedSource(found) ? decodedArtifact(found, settings) : found;
    this.#inner = source;
    const { kind, tensors, metadata } = await source.open();
    this.#tensors = tensors;
    const converted = tensors.map((info) => ({ ...info, dtype: this.dtypeOf(info) }));
    this.#chunkBytes = source.chunkBytes;
    if (this.#chunkBytes !== undefined) {
      for (const [i, info] of converted.entries()) this.#checkWidth(tensors[i]!, info);
    }
    return { kind, tensors: converted, metadata };
  }

  // Chunks that are what they are cannot be read as chunks of another dtype's width would ask for.
  #checkWidth({ name, dtype }: TensorInfo, converted: TensorInfo): void {
    if (DTYPE_BITS[dtype] === DTYPE_BITS[converted.dtype]) return;
    const message = `${quote(this.name)} is read in its own chunks only, and ${dtype} becomes ${converted.dtype}, which is not as wide: unpack it, and give what comes of it`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { tensor: name });
  }

  async read(chunk: Chunk, pool: BufferPool): Promise<Loan> {
    const target = pool.lend(chunk.bytes);
    try {
      const tensor = this.#tensors[chunk.tensor]!;
      // Pieces of no more bytes than the chunk has: of a wider dtype it takes several. Of the same width one is right.
      const fixed = this.#chunkBytes !== undefined;
      const most = fixed
        ? chunk.elements
        : chunkElements(tensor.dtype, Math.max(chunk.bytes, MIN_CHUNK_BYTES));
      for (let done = 0; done < chunk.elements; done += most) {
        await this.#piece(chunk, done, Math.min(most, chunk.elements - done), pool, target.bytes);
      }
      return target;
    } catch (error) {
      target.release();
      throw error;
    }
  }

  async #piece(
    chunk: Chunk,
    done: number,
    elements: number,
    pool: BufferPool,
    target: Uint8Array,
  ): Promise<void> {
    const tensor = this.#tensors[chunk.tensor]!;
    const first = chunk.first + done;
    const [offset, bytes] = [byteLength(tensor.dtype, first), byteLength(tensor.dtype, elements)];
    const width = chunk.bytes / chunk.elements;
    const loan = await this.#inner!.read({ ...chunk, first, offset, elements, bytes }, pool);
    try {
      const place = target.subarray(width * done, width * (done + elements));
      this.convert({ tensor, chunk: chunk.index, first, elements, source: loan.bytes, target: place });
    } finally {
      loan.release();
    }
  }

  async verify(): Promise<void> {
    await this.#inner?.verify?.();
  }

  async close(): Promise<void> {
    await this.#inner?.close();
  }
}
