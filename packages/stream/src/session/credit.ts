import { TensorwireError } from "@tensorwire/core";
import { type Deferred, deferred } from "./deferred.js";

/** The sender's side of credit: how many source bytes it may have sent, in total, on this connection. */
export class CreditGate {
  #limit = 0;
  #taken = 0;
  #waiting: Deferred<void> | undefined;
  #failed: { readonly error: unknown } | undefined;

  /** Source bytes sent. */
  get taken(): number {
    return this.#taken;
  }

  get limit(): number {
    return this.#limit;
  }

  /** Whether somebody waits for more than was granted. */
  get waiting(): boolean {
    return this.#waiting !== undefined;
  }

  /** Whether `bytes` more may be sent now. */
  allows(bytes: number): boolean {
    return this.#taken + bytes <= this.#limit;
  }

  /** Counts `bytes` as sent, if they may be sent now. */
  tryTake(bytes: number): boolean {
    if (this.#failed || !this.allows(bytes)) return false;
    this.#taken += bytes;
    return true;
  }

  /** Waits until `bytes` more may be sent, and counts them as sent. */
  async take(bytes: number): Promise<void> {
    while (!this.#failed && !this.allows(bytes)) {
      this.#waiting ??= deferred<void>();
      await this.#waiting.promise;
    }
    if (this.#failed) throw this.#failed.error;
    this.#taken += bytes;
  }

  /** A grant is a total: one below an earlier one is a fault of the peer's. */
  grant(limit: number): void {
    if (limit < this.#limit) {
      throw new TensorwireError("PROTOCOL", `credit went back from ${this.#limit} to ${limit} bytes`);
    }
    this.#limit = limit;
    this.#wake();
  }

  fail(error: unknown): void {
    this.#failed ??= { error };
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }
}

/**
 * Tells the peer of its credit, one frame at a time, the latest total in each: a peer that reads nothing must not make a
 * queue here.
 */
export class CreditNotice {
  #due = false;
  #sending = false;

  /** @param send Sends what is granted now; never rejects. */
  constructor(private readonly send: () => Promise<void>) {}

  /** Whether there is something that the peer does not know yet. */
  get busy(): boolean {
    return this.#sending;
  }

  /** There is something to tell. */
  due(): void {
    this.#due = true;
    if (!this.#sending) void this.#run();
  }

  async #run(): Promise<void> {
    this.#sending = true;
    while (this.#due) {
      this.#due = false;
      await this.send();
    }
    this.#sending = false;
  }
}

/** What a receiver brings to a connection. In source bytes. */
export interface Carried {
  /** The largest chunk of the plan: a peer that has less credit may be waiting for more. */
  readonly chunkBytes: number;
  /** In the sink's hands, of an earlier connection: it takes its part of the window. */
  readonly carried: number;
  /** The sink makes checkpoints: credit runs no more than a window ahead of the last one. */
  readonly journaled: boolean;
  /** With that: finished with, and in no checkpoint yet. */
  readonly unsafe: number;
}

/**
 * The receiver's side, of one connection: how many source bytes it has granted, seen arrive, finished with, and made
 * durable. What it says of them are totals of this connection.
 */
export class CreditLedger {
  #arrived = 0;
  #finished = 0;
  #durable = 0;
  #carried = 0;
  /** Finished with, and in no checkpoint. */
  #unsafe = 0;
  #journaled = false;
  #announced = 0;
  #chunkBytes = 0;
  /** Of the window: as much as memory is reserved for. */
  room: number;

  /** @param windowBytes Source bytes that may be in flight, at most. */
  constructor(readonly windowBytes: number) {
    this.room = windowBytes;
  }

  /** What there is from before, as far as it bears on credit. Before any is granted. */
  begin({ chunkBytes, carried, journaled, unsafe }: Carried): void {
    this.#chunkBytes = chunkBytes;
    this.#carried = carried;
    this.#journaled = journaled;
    this.#unsafe = unsafe;
  }

  get arrived(): number {
    return this.#arrived;
  }

  get finished(): number {
    return this.#finished;
  }

  get durable(): number {
    return this.#durable;
  }

  /** What could be granted in all: as much as there is room for, and, where there is a journal, a window ahead of it. */
  get limit(): number {
    // One byte less than a window: what may travel twice is less than two of them.
    const ahead = Math.max(0, this.#unsafe - (this.windowBytes - 1));
    return this.#finished - ahead + this.room - this.#carried;
  }

  /** What is granted. It never goes back. */
  get announced(): number {
    return this.#announced;
  }

  /** Grants what there is. */
  announce(): number {
    this.#announced = Math.max(this.#announced, this.limit);
    return this.#announced;
  }

  /** Source bytes that arrived, on this connection or before, and are not finished with. */
  get held(): number {
    return this.#carried + this.#arrived - this.#finished;
  }

  /** A chunk is about to arrive. @throws TensorwireError `CREDIT_EXCEEDED`, where credit is `enforced`. */
  arrive(bytes: number, enforced: boolean): void {
    if (enforced && this.#arrived + bytes > this.#announced) {
      throw new TensorwireError(
        "CREDIT_EXCEEDED",
        `the peer sent ${this.#arrived + bytes} source bytes where ${this.#announced} were granted`,
      );
    }
    this.#arrived += bytes;
  }

  /** The sink is done with a chunk of this connection. */
  finish(bytes: number): void {
    this.#finished += bytes;
    if (this.#journaled) this.#unsafe += bytes;
  }

  /** The sink had the chunk already: there was nothing to do. */
  skip(bytes: number): void {
    this.#finished += bytes;
  }

  /** The sink is done with a chunk of an earlier connection. */
  finishCarried(bytes: number): void {
    this.#carried -= bytes;
    if (this.#journaled) this.#unsafe += bytes;
  }

  /** A checkpoint has made `bytes` durable, of which `ours` came on this connection. */
  secure(bytes: number, ours: number): void {
    this.#unsafe -= bytes;
    this.#durable += ours;
  }

  /**
   * Whether it is time to grant what there is and to tell the peer: at every eighth of what may be in flight; and where
   * nothing is, and the peer may be waiting with a chunk that its credit is not enough for.
   */
  get due(): boolean {
    const more = this.limit - this.#announced;
    if (more <= 0) return false;
    return more >= this.room / 8 || (this.held === 0 && this.#announced - this.#arrived < this.#chunkBytes);
  }
}
