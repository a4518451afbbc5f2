import type { DeviceBytes } from "./backend/device-bytes.js";
import { TensorwireError } from "./errors.js";

/** Bytes lent by a pool, or by a source from its own memory, until `release`. */
export interface Loan {
  /** The bytes that are lent; whoever has the loan may write to them. */
  readonly bytes: Uint8Array;
  /** Where they lie, if that is on a device: then `bytes` cannot be asked for. */
  readonly device?: DeviceBytes | undefined;
  /** Gives the bytes back. Once: a second call is a defect, and throws. */
  release(): void;
}

/**
 * A loan of bytes that belong to nobody's pool.
 * @example
 * const loan = unpooled(new Uint8Array(16));
 * loan.release();
 */
export function unpooled(bytes: Uint8Array): Loan {
  return new Unpooled(bytes);
}

class Unpooled implements Loan {
  constructor(readonly bytes: Uint8Array) {}

  release(): void {}
}

interface Slab {
  readonly bytes: Uint8Array;
  used: number;
  loans: number;
}

// A class, not a closure a loan: small tensors take thousands of them.
class PooledLoan implements Loan {
  private out = true;

  constructor(
    readonly bytes: Uint8Array,
    readonly slab: Slab,
    private readonly giveBack: (loan: PooledLoan) => void,
  ) {}

  release(): void {
    if (!this.out) throw new TensorwireError("INTERNAL", "a buffer was released twice");
    this.out = false;
    this.giveBack(this);
  }
}

/** Where a slab's memory comes from; `offset` puts its first byte on a 64-byte boundary. */
export type SlabAlignment = (buffer: ArrayBuffer) => number;

const ALIGNMENT = 64;

// glibc hands out a large buffer 16 bytes past a page; 48 more make 64. Where the true address is known (the native
// addon can tell), the pool's owner passes it.
const presumedAlignment: SlabAlignment = () => ALIGNMENT - 16;

const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** What a loan of `bytes` takes of its slab. */
export const loanBytes = align;

/**
 * Buffers that are reused and never left to the garbage collector, which returns external memory late. Memory is held
 * in slabs of one size; small loans share a slab, from its beginning to its end, and a slab is used again when the
 * last of its loans is back. Loans come back in about the order in which they were made, which is what chunks do.
 * @example
 * const pool = new BufferPool(65_536);
 * const loan = pool.lend(1000);
 * loan.release();
 * console.log(pool.loans, pool.heldBytes); // 0 65536
 */
export class BufferPool {
  /** Bytes of a slab. */
  readonly slabBytes: number;
  readonly #alignment: SlabAlignment;
  readonly #discard: (buffer: ArrayBuffer) => void;
  readonly #free: Slab[] = [];
  #most = Number.POSITIVE_INFINITY;
  #current: Slab | undefined;
  #slabs = 0;
  #lent = 0;
  #loans = 0;

  /**
   * @param slabBytes The largest loan.
   * @param discard Gives a slab's memory back at once, where the runtime can; else the garbage collector does, in its time.
   */
  constructor(
    slabBytes: number,
    alignment: SlabAlignment = presumedAlignment,
    discard: (buffer: ArrayBuffer) => void = () => {},
  ) {
    this.slabBytes = align(slabBytes);
    this.#alignment = alignment;
    this.#discard = discard;
  }

  /** Bytes of the largest loan: those of a slab, unless another pool lends what is larger. */
  get largestLoan(): number {
    return this.slabBytes;
  }

  /** Loans that are out: 0 once every owner has given its buffers back. */
  get loans(): number {
    return this.#loans;
  }

  /** Bytes that are out. */
  get lentBytes(): number {
    return this.#lent;
  }

  /** Bytes of memory that the pool holds, lent or free. */
  get heldBytes(): number {
    return this.#slabs * this.slabBytes;
  }

  /** Lends `bytes` bytes, 64-byte aligned, with whatever they held before. */
  lend(bytes: number): Loan {
    if (bytes > this.slabBytes) {
      throw new TensorwireError("INTERNAL", `a loan of ${bytes} bytes from a pool of ${this.slabBytes}`);
    }
    const slab = this.#slabFor(bytes);
    const view = slab.bytes.subarray(slab.used, slab.used + bytes);
    slab.used += align(bytes);
    slab.loans++;
    this.#loans++;
    this.#lent += bytes;
    return new PooledLoan(view, slab, this.#giveBack);
  }

  /** From now on keeps at most so many slabs: what is free beyond that is given back, and what is lent, when it is back. */
  keep(slabs: number): void {
    this.#most = slabs;
    while (this.#slabs > slabs && this.#free.length) this.#drop(this.#free.pop()!);
    const current = this.#current;
    if (!current || current.loans > 0 || this.#slabs <= slabs) return;
    this.#current = undefined;
    this.#drop(current);
  }

  readonly #giveBack = ({ bytes, slab }: PooledLoan): void => {
    this.#loans--;
    this.#lent -= bytes.length;
    if (--slab.loans === 0) this.#recycle(slab);
  };

  #slabFor(bytes: number): Slab {
    const current = this.#current;
    if (current && current.used + bytes <= this.slabBytes) return current;
    const next = this.#free.pop() ?? this.#allocate();
    this.#current = next;
    return next;
  }

  #allocate(): Slab {
    const buffer = new ArrayBuffer(this.slabBytes + ALIGNMENT);
    this.#slabs++;
    return { bytes: new Uint8Array(buffer, this.#alignment(buffer), this.slabBytes), used: 0, loans: 0 };
  }

  #recycle(slab: Slab): void {
    slab.used = 0;
    const current = slab === this.#current;
    if (this.#slabs > this.#most) {
      if (current) this.#current = undefined;
      this.#drop(slab);
    } else if (!current) {
      this.#free.push(slab);
    }
  }

  #drop({ bytes }: Slab): void {
    this.#slabs--;
    this.#discard(bytes.buffer as ArrayBuffer);
  }
}
