import {
  BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  DEFAULT_CHUNK_BYTES,
  quote,
  type SlabAlignment,
  SquareSum,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import { READ_AHEAD_BYTES } from "../source/source.js";
import type { AggregateRule } from "./aggregate-options.js";
import type { ExcludedClient } from "./aggregate-report.js";
import { type ClientModel, isFloatTensor } from "./client-model.js";
import type { ReadAheadPool } from "./read-ahead-pool.js";
import { Turns } from "../compute/turns.js";

/** What was found in a client's model before the first chunk of the aggregate. */
export interface Findings {
  readonly excluded?: ExcludedClient | undefined;
  /** With `clipNorm`. */
  readonly norm?: number | undefined;
}

interface LookThroughSettings {
  readonly tensors: readonly TensorInfo[];
  readonly chunkBytes: number | undefined;
  readonly rule: AggregateRule;
  readonly readAhead: ReadAheadPool;
  readonly alignment: SlabAlignment | undefined;
  /** Throws where the aggregate was closed meanwhile. */
  readonly goesOn: () => void;
}

/**
 * Reads models before they are aggregated: for values that are not finite, so that nobody is left out in the middle, and for
 * norms. It takes the memory of three chunks, which is given back at the end.
 */
export class LookThrough {
  readonly #plan: ChunkPlan;
  readonly #pool: BufferPool;
  readonly #turns = new Turns();

  constructor(private readonly settings: LookThroughSettings) {
    const { tensors, chunkBytes = DEFAULT_CHUNK_BYTES, alignment, readAhead } = settings;
    this.#plan = new ChunkPlan(tensors, chunkBytes);
    const largest = Math.max(this.#plan.maxChunkBytes, READ_AHEAD_BYTES);
    this.#pool = new BufferPool(largest, alignment, discardSlab);
    readAhead.beyond = this.#pool;
  }

  /** @throws TensorwireError as reading does; `VALUE_NOT_FINITE` where such a client is not to be left out. */
  async client(client: ClientModel): Promise<Findings> {
    const { rule, readAhead } = this.settings;
    const squares = rule.clipNorm === undefined ? undefined : new SquareSum();
    if (client.finite === false)
      return this.#excluded(client, "a value is NaN or infinite, as its source says");
    // Of what can be read once, a value that is not finite shows when it is too late to leave its client out.
    const looks = client.finite !== true && !client.oneShot;
    if (!looks && !squares) return {};
    if (client.oneShot) throw readTwice(client);
    client.want(this.#floatRuns(), this.#plan);
    const sums = rule.method === "mean" && rule.accumulator === "f32" ? "F32" : "F64";
    for (const chunk of this.#floatChunks()) {
      await this.#turns.next();
      this.settings.goesOn();
      try {
        const finite = squares
          ? await this.#add(client, chunk, squares)
          : await client.finiteChunk(chunk, readAhead, sums);
        if (!finite) return this.#excluded(client, "a value is NaN or infinite", chunk);
      } catch (error) {
        if (!(error instanceof TensorwireError) || error.code !== "PAYLOAD_INVALID") throw error;
        return this.#excluded(client, error.message, chunk, error);
      }
    }
    return { norm: squares?.norm };
  }

  /** What is read of a model: who fetches ahead need not fetch the rest. */
  #floatRuns(): ChunkRange[] {
    const runs: { first: number; count: number }[] = [];
    this.settings.tensors.forEach((tensor, i) => {
      const { first, count } = this.#plan.range(i);
      if (!isFloatTensor(tensor) || count === 0) return;
      const last = runs.at(-1);
      if (last && last.first + last.count === first) last.count += count;
      else runs.push({ first, count });
    });
    return runs;
  }

  *#floatChunks(): Generator<Chunk> {
    yield* this.#plan.walk(this.#floatRuns());
  }

  async #add(client: ClientModel, chunk: Chunk, squares: SquareSum): Promise<boolean> {
    const loan = await client.decoded(chunk, this.settings.readAhead);
    try {
      const tensor = this.settings.tensors[chunk.tensor]!;
      return isFloatTensor(tensor) && squares.add(tensor.dtype, chunk.elements, loan.bytes);
    } finally {
      loan.release();
    }
  }

  #excluded({ id }: ClientModel, reason: string, chunk?: Chunk, cause?: TensorwireError): Findings {
    const { tensors, chunkBytes } = this.settings;
    const tensor = chunk && tensors[chunk.tensor]!.name;
    // Where nothing is cut already, others cut it otherwise.
    const excluded = { id, reason, tensor, chunk: chunkBytes === undefined ? undefined : chunk?.index };
    if (this.settings.rule.nonFinite === "exclude") return { excluded };
    throw cause ?? notFinite(excluded);
  }

  /** Everything is looked through. */
  end(): void {
    this.settings.readAhead.beyond = undefined;
    this.#pool.keep(0);
  }
}

function notFinite({ id, reason, tensor, chunk }: ExcludedClient): TensorwireError {
  const message = `client ${quote(id)}: ${reason}: mend its model, or let the client be left out (nonFinite: "exclude")`;
  return new TensorwireError("VALUE_NOT_FINITE", message, { tensor, chunk });
}

function readTwice({ id }: ClientModel): TensorwireError {
  const message = `client ${quote(id)}: it can be read once, and for clipNorm it is read twice: give a source that can be, or leave clipNorm out`;
  return new TensorwireError("INVALID_ARGUMENT", message);
}
