import {
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type CodecSpec,
  type FloatDType,
  isFloatDType,
  type Loan,
  type ModelInfo,
  Packing,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";
import { specOf } from "../session/exact.js";
import { openSource } from "../source/open.js";
import {
  type EncodedSource,
  isEncodedSource,
  isModelSource,
  type ModelSource,
  type SourceMemory,
} from "../source/source.js";
import { mappedRuns } from "../compute/chunk-runs.js";
import { ofClient } from "./client-fault.js";
import type { ClientSource } from "./client-list.js";

type Settings = Pick<ResolvedOptions, "limits" | "registry" | "backend">;

const NONE: CodecSpec = { name: "none" };

/** A chunk as a client has it: what jobs of a backend take. */
interface ClientPayload {
  readonly codec: CodecSpec;
  readonly dtype: TensorInfo["dtype"];
  readonly elements: number;
  readonly payload: Uint8Array;
  readonly unpacked: Uint8Array | undefined;
  readonly hash: bigint | undefined;
}

/** What was read of it. Whoever asked for it gives the loans back; the payload's is the first. */
interface ReadPayload {
  readonly job: ClientPayload;
  readonly loans: readonly Loan[];
}

/** A client's model, read by chunks of the aggregate's plan. Its errors name the client. */
export class ClientModel {
  #info: ModelInfo | undefined;
  /** Its own plan, where its chunks are what they are. */
  #plan: ChunkPlan | undefined;
  #codecs: readonly CodecSpec[] = [];
  /** For each tensor of the aggregate its place in this model. */
  #places: readonly number[] = [];
  #closed = false;

  private constructor(
    readonly id: string,
    private readonly source: ModelSource | EncodedSource,
    private readonly settings: Settings,
  ) {}

  /** @throws TensorwireError as opening the source does. Then nothing is open. */
  static async open({ id, source }: ClientSource, settings: Settings): Promise<ClientModel> {
    let client: ClientModel | undefined;
    try {
      client = new ClientModel(id, await openSource(source, {}, settings), settings);
      await client.#open();
      return client;
    } catch (error) {
      // What keeps it from closing matters less than what kept it from opening.
      await (client ?? sourceOf(source))?.close().catch(() => {});
      throw ofClient(error, id);
    }
  }

  async #open(): Promise<void> {
    const { source } = this;
    if (isEncodedSource(source)) {
      const manifest = await source.open();
      this.#info = manifest;
      this.#codecs = manifest.tensors.map(({ codec }) => codec);
      this.#plan = new ChunkPlan(manifest.tensors, manifest.chunkBytes);
    } else {
      this.#info = await source.open();
      const { chunkBytes } = source;
      if (chunkBytes !== undefined) this.#plan = new ChunkPlan(this.#info.tensors, chunkBytes);
    }
    if (this.#info.kind !== "raw") return;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(source.name)} is no model: its bytes have no meaning here`,
    );
  }

  get info(): ModelInfo {
    return this.#info!;
  }

  get version(): string | undefined {
    return this.source.version;
  }

  get oneShot(): boolean {
    return !isEncodedSource(this.source) && this.source.oneShot === true;
  }

  /** The only chunk size that it can be read in, where there is one. */
  get chunkBytes(): number | undefined {
    return this.#plan?.chunkBytes;
  }

  /** What its source knows of its values; see `ModelSource`. */
  get finite(): boolean | undefined {
    return this.source.finite;
  }

  /** Where the aggregate's tensors are in this model. */
  set places(places: readonly number[]) {
    this.#places = places;
  }

  memory(plan: ChunkPlan): SourceMemory {
    // Of what is encoded there are a payload and, of a packed one, room for it unpacked.
    return this.source.memory?.(plan) ?? { slabs: isEncodedSource(this.source) ? 1 : 0, bytes: 0 };
  }

  /**
   * Says what will be asked for, by chunks of the aggregate's plan; not where its tensors are in another order, or where nobody
   * knows how they are cut.
   */
  want(runs: readonly ChunkRange[], plan: ChunkPlan | undefined): void {
    if (!this.source.want) return;
    const own = this.#plan;
    if (own && plan) {
      const mapped = mappedRuns(runs, plan, own, this.#places);
      if (mapped) this.source.want(mapped);
    } else if (this.#places.every((place, i) => place === i)) {
      this.source.want(runs);
    }
  }

  /** Adds its elements, times `weight`, to `sums`. @throws TensorwireError `VALUE_NOT_FINITE`, and as reading does. */
  accumulate(
    chunk: Chunk,
    pool: BufferPool,
    weight: number,
    sums: Float32Array | Float64Array,
  ): Promise<void> {
    return this.#with(chunk, pool, async ({ job }) => {
      const { finite } = await this.settings.backend.accumulate({ ...job, weight, accumulator: sums });
      if (!finite) throw notFinite();
    });
  }

  /** Whether all elements of a tensor of floats are finite, as its dtype and as what they are summed in. */
  finiteChunk(chunk: Chunk, pool: BufferPool, sums: "F32" | "F64"): Promise<boolean> {
    const { backend } = this.settings;
    return this.#with(chunk, pool, async ({ job }) => {
      const output = job.dtype === "F64" ? "F64" : sums;
      const half = job.dtype === "F16" || job.dtype === "BF16";
      // A scale can be finite as a float32, and its values not as the elements that they are decoded to.
      if (!half || job.codec.name === "none") return (await backend.finite({ ...job, output })).finite;
      const decoded = await this.#decode(job, chunk, pool);
      try {
        const { dtype, elements } = job;
        return (await backend.finite({ codec: NONE, dtype, elements, payload: decoded.bytes, output }))
          .finite;
      } finally {
        decoded.release();
      }
    });
  }

  /** Its elements, decoded to their dtype. */
  decoded(chunk: Chunk, pool: BufferPool): Promise<Loan> {
    return this.#with(chunk, pool, async ({ job, loans }, keep) => {
      if (job.codec.name === "none" && !job.unpacked && job.hash === undefined) return keep(loans[0]!);
      return this.#decode(job, chunk, pool);
    });
  }

  async #decode(job: ClientPayload, chunk: Chunk, pool: BufferPool): Promise<Loan> {
    const target = pool.lend(chunk.bytes);
    try {
      await this.settings.backend.decode({ ...job, output: job.dtype, target: target.bytes });
      return target;
    } catch (error) {
      target.release();
      throw error;
    }
  }

  /** Does something with a chunk, and gives back what was lent for it, but for what `work` keeps. */
  async #with<T>(
    chunk: Chunk,
    pool: BufferPool,
    work: (read: ReadPayload, keep: (loan: Loan) => Loan) => Promise<T>,
  ): Promise<T> {
    const tensor = this.#places[chunk.tensor]!;
    let read: ReadPayload | undefined;
    let kept: Loan | undefined;
    try {
      read = await this.#read({ ...chunk, tensor, ordinal: this.#ordinal(chunk, tensor) }, pool);
      return await work(read, (loan) => (kept = loan));
    } catch (error) {
      throw this.#fault(error, tensor, chunk);
    } finally {
      for (const loan of read?.loans ?? []) if (loan !== kept) loan.release();
    }
  }

  async #read(chunk: Chunk, pool: BufferPool): Promise<ReadPayload> {
    const { source, settings } = this;
    const { dtype } = this.info.tensors[chunk.tensor]!;
    const { elements } = chunk;
    if (!isEncodedSource(source)) {
      const loan = await source.read(chunk, pool);
      const job = { codec: NONE, dtype, elements, payload: loan.bytes, unpacked: undefined, hash: undefined };
      return { job, loans: [loan] };
    }
    const { record, loan } = await source.readEncoded(chunk, pool);
    const loans = [loan];
    try {
      const carrier = settings.registry.byId(record.codec);
      const spec = this.#codecs[chunk.tensor]!;
      const codec = specOf(carrier, spec) ?? spec;
      const packed = (record.packing ?? Packing.RAW) !== Packing.RAW;
      if (packed) loans.push(pool.lend(record.payloadBytes));
      const unpacked = packed ? loans[1]!.bytes : undefined;
      const job = { codec, dtype, elements, payload: loan.bytes, unpacked, hash: record.hash };
      return { job, loans };
    } catch (error) {
      for (const each of loans) each.release();
      throw error;
    }
  }

  /** Its place in the model's own plan; any, where chunks are cut as the reader likes. */
  #ordinal({ index, first, elements, ordinal }: Chunk, tensor: number): number {
    const plan = this.#plan;
    if (!plan) return ordinal;
    const range = plan.range(tensor);
    const own = index < range.count ? plan.chunk(range.first + index) : undefined;
    if (own?.first === first && own.elements === elements) return own.ordinal;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(this.source.name)} is read in its own chunks of ${plan.chunkBytes} bytes, and in no others`,
    );
  }

  #fault(error: unknown, tensor: number, { index }: Chunk): TensorwireError {
    const known = ofClient(error, this.id);
    if (known.tensor !== undefined || known.code === "ABORTED") return known;
    const { code, message, retryable, cause } = known;
    const { name } = this.info.tensors[tensor]!;
    return new TensorwireError(code, message, { tensor: name, chunk: index, retryable, cause });
  }

  async verify(): Promise<void> {
    try {
      await this.source.verify?.();
    } catch (error) {
      throw ofClient(error, this.id);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.source.close();
  }
}

/** What the caller gave away as a source. */
export function sourceOf(source: ClientSource["source"]): ModelSource | EncodedSource | undefined {
  return isModelSource(source) ? source : undefined;
}

function notFinite(): TensorwireError {
  return new TensorwireError(
    "VALUE_NOT_FINITE",
    "a value is NaN or infinite: leave the client out, or mend its model",
  );
}

/** Tensors that are averaged as floats. */
export function isFloatTensor<T extends TensorInfo>(tensor: T): tensor is T & { dtype: FloatDType } {
  return isFloatDType(tensor.dtype);
}
