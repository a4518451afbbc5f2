import { setMaxListeners } from "node:events";
import { type BufferPool, type Loan, TensorwireError } from "@tensorwire/core";
import { type ByteRange, slabsAhead } from "../source/byte-reader.js";
import { Block, type Piece } from "./block.js";

/** Bytes between two ranges that cost less than another request does. */
export const GAP_BYTES = 64 * 1024;

/** A smaller request costs more than it moves. */
const MIN_PIECE_BYTES = 256 * 1024;

/** Fills `target` from `position` on. */
export type Fetch = (position: number, target: Uint8Array, signal: AbortSignal) => Promise<void>;

export interface ReadAheadOptions {
  /** Pieces that are fetched at once. */
  readonly concurrency: number;
  /** Bytes of the reader's pool that are fetched, or wait to be read; but always one slab. */
  readonly bytes: number;
}

/**
 * Fetches what will be read, in order, several pieces at once. Ranges that lie near each other are joined to blocks, of a slab of
 * the reader's pool at most; large blocks are cut into pieces, so that there are enough of them to fetch at once.
 */
export class ReadAhead {
  #ranges: Iterator<ByteRange> | undefined;
  /** The next range that no block has. */
  #next: ByteRange | undefined;
  #blocks: Block[] = [];
  #pieces: Piece[] = [];
  #generation = generation();
  #fetching = 0;
  /** Fetches that have not ended, those of earlier generations too. */
  readonly #running = new Set<Promise<void>>();

  constructor(
    private readonly fetch: Fetch,
    private readonly options: ReadAheadOptions,
  ) {}

  /** What will be read from now on. What was fetched for something else goes back. */
  expect(ranges: Iterable<ByteRange>): void {
    this.forget(new TensorwireError("ABORTED", "other bytes are read instead"));
    this.#ranges = ranges[Symbol.iterator]();
    this.#advance();
  }

  /** The bytes of a range that was expected; undefined for others. */
  take(position: number, bytes: number, pool: BufferPool): Promise<Loan> | undefined {
    this.#pass(position);
    this.#begin(pool);
    const end = position + bytes;
    const block = this.#blocks.find((each) => each.position <= position && end <= each.end);
    const part = block?.part(position, end);
    // What comes next need not wait until somebody asks for it.
    part?.then(
      () => {
        this.#pass(end);
        this.#begin(pool);
      },
      () => {},
    );
    return part;
  }

  /** Reading goes forward: what lies before is not asked for again. */
  #pass(position: number): void {
    while (this.#blocks[0] && this.#blocks[0].end <= position) this.#blocks.shift()!.drop();
    while (this.#next && this.#next.position + this.#next.bytes <= position) this.#advance();
  }

  #advance(): void {
    const { value, done } = this.#ranges!.next();
    this.#next = done ? undefined : value;
  }

  /** As many blocks as there is room for. */
  #begin(pool: BufferPool): void {
    const { bytes, concurrency } = this.options;
    const most = slabsAhead(bytes, pool.slabBytes);
    const piece = Math.max(MIN_PIECE_BYTES, Math.ceil(bytes / concurrency));
    while (this.#next && this.#blocks.length < most) {
      const block = this.#block(this.#next.position, pool);
      this.#blocks.push(block);
      this.#pieces.push(...block.pieces(piece));
    }
    this.#work();
  }

  #block(position: number, pool: BufferPool): Block {
    let end = position;
    while (this.#next && this.#next.position - end <= GAP_BYTES) {
      const next = this.#next.position + this.#next.bytes;
      if (end > position && next - position > pool.slabBytes) break;
      end = next;
      this.#advance();
    }
    return new Block(position, pool.lend(end - position));
  }

  #work(): void {
    while (this.#fetching < this.options.concurrency && this.#pieces.length > 0) {
      const { block, position, target } = this.#pieces.shift()!;
      this.#fetching++;
      const own = this.#generation;
      const running = block.filled(this.fetch(position, target, own.signal)).then(() => {
        this.#running.delete(running);
        if (own !== this.#generation) return;
        this.#fetching--;
        this.#work();
      });
      this.#running.add(running);
    }
  }

  /** Gives up what is being fetched, and gives back what was: parts that are lent stay with their owners. */
  forget(reason: Error): void {
    this.#generation.abort(reason);
    this.#generation = generation();
    this.#fetching = 0;
    this.#pieces = [];
    this.#next = undefined;
    for (const block of this.#blocks.splice(0)) block.drop(reason);
  }

  /** Resolves when nothing is being fetched any more, and what was given up is back. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
  }
}

/** Each fetch listens, and there are as many as the caller has asked for. */
function generation(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
