import {
  type Answer,
  BufferPool,
  byteLength,
  type Chunk,
  type ChunkPlan,
  chunkElements,
  type Loan,
  MIN_CHUNK_BYTES,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { discardSlab } from "../budget/slab-memory.js";
import { READ_AHEAD_BYTES, type SourceMemory } from "../source/source.js";
import type { Input } from "./input.js";

/** Elements of an input, lent until the call that they are given to is done: `count` of them, from the `at`-th that was asked for on. */
export type UseElements = (bytes: Uint8Array, at: number, count: number) => Answer<void>;

/**
 * An input's elements by runs of another source's chunks, whatever the input is cut into. What can be read in its own chunks
 * only is read so, each once: one stays in memory as long as there are elements of it to come.
 */
export class ElementRuns {
  #held: { readonly ordinal: number; readonly loan: Loan } | undefined;
  /** For chunks that are larger than all that is made of them. */
  #own: BufferPool | undefined;
  #used = false;
  #closed = false;

  constructor(private readonly input: Input) {}

  /** Gives the elements of `chunk`, of which `tensor` is the input's place, to `use`, in order and in as many runs as it takes. */
  async each(chunk: Chunk, tensor: number, pool: BufferPool, use: UseElements): Promise<void> {
    const { plan } = this.input;
    if (plan) await this.#chunks(chunk, plan, tensor, pool, use);
    else await this.#pieces(chunk, tensor, pool, use);
  }

  async #pieces(chunk: Chunk, tensor: number, pool: BufferPool, use: UseElements): Promise<void> {
    const { dtype } = this.input.info.tensors[tensor]!;
    // Of a wider dtype it may take several.
    const whole = byteLength(dtype, chunk.elements) <= pool.largestLoan;
    const most = whole ? chunk.elements : chunkElements(dtype, Math.max(pool.largestLoan, MIN_CHUNK_BYTES));
    for (let at = 0; at < chunk.elements; at += most) {
      const elements = Math.min(most, chunk.elements - at);
      const first = chunk.first + at;
      const place = { first, offset: byteLength(dtype, first), elements, bytes: byteLength(dtype, elements) };
      const loan = await this.#open(await this.input.read({ ...chunk, ...place }, tensor, pool));
      try {
        await use(loan.bytes, at, elements);
      } finally {
        loan.release();
      }
    }
  }

  async #chunks(
    { first, elements }: Chunk,
    plan: ChunkPlan,
    tensor: number,
    pool: BufferPool,
    use: UseElements,
  ): Promise<void> {
    const { dtype } = this.input.info.tensors[tensor]!;
    const range = plan.range(tensor);
    const each = plan.chunk(range.first).elements;
    for (let at = 0; at < elements; ) {
      const own = plan.chunk(range.first + Math.floor((first + at) / each));
      const skipped = first + at - own.first;
      const count = Math.min(own.elements - skipped, elements - at);
      const bytes = await this.#hold(own, pool);
      let last = true;
      this.#used = true;
      try {
        await use(bytes.subarray(byteLength(dtype, skipped), byteLength(dtype, skipped + count)), at, count);
        last = skipped + count === own.elements;
      } finally {
        this.#used = false;
        if (last || this.#closed) this.#release();
      }
      at += count;
    }
  }

  async #hold(chunk: Chunk, pool: BufferPool): Promise<Uint8Array> {
    if (this.#held?.ordinal !== chunk.ordinal) {
      this.#release();
      const loan = await this.input.read(chunk, chunk.tensor, this.#lender(pool));
      this.#held = { ordinal: chunk.ordinal, loan: this.#open(loan) };
    }
    return this.#held!.loan.bytes;
  }

  #lender(pool: BufferPool): BufferPool {
    const largest = this.input.plan!.maxChunkBytes;
    if (largest <= pool.largestLoan) return pool;
    this.#own ??= new BufferPool(Math.max(largest, READ_AHEAD_BYTES), undefined, discardSlab);
    return this.#own;
  }

  /** What was read for a source that was closed meanwhile goes back. */
  #open(loan: Loan): Loan {
    if (!this.#closed) return loan;
    loan.release();
    throw new TensorwireError("ABORTED", `${quote(this.input.name)} was closed while it was being read`);
  }

  /** For budgets: what the input takes, and a chunk of it. */
  memory(plan: ChunkPlan): SourceMemory {
    const { slabs, bytes, kept } = this.input.memory(plan);
    const largest = this.input.plan?.maxChunkBytes ?? 0;
    const own = largest > Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES) ? largest * (slabs + 1) : 0;
    return { slabs: slabs + 1, bytes: bytes + own, kept };
  }

  #release(): void {
    this.#held?.loan.release();
    this.#held = undefined;
  }

  /** Gives back what is held; what is in use at the moment, when it is not. */
  close(): void {
    this.#closed = true;
    if (!this.#used) this.#release();
    this.#own?.keep(0);
  }
}
