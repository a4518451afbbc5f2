import { asTensorwireError, type Loan, TensorwireError } from "@tensorwire/core";
import type { Connection } from "./connection.js";
import { deferred } from "./deferred.js";
import { faultOf } from "./fault.js";
import { withinGrace } from "./grace.js";

/**
 * How a transfer fails, on either end: once, with the first cause; whatever waits is told; the peer is told, if it was
 * not the peer that failed; and nothing ends before its buffers are back. Where it is tried more than once, each attempt has
 * a life of its own within it.
 */
export class TransferLife {
  readonly #abort = new AbortController();
  readonly #failed = deferred<never>();
  readonly #onAbort = (): void => this.fail(abortError(this.signal!.reason));
  /** Who waits for something that a failure ends. */
  readonly #racing = new Set<(error: unknown) => void>();
  #error: TensorwireError | undefined;
  #byPeer = false;
  /** The attempt that goes on now. */
  #attempt: TransferLife | undefined;
  #onFail: ((error: TensorwireError) => void) | undefined;

  constructor(private readonly signal: AbortSignal | undefined) {
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Aborts codec jobs. */
  get jobs(): AbortSignal {
    return this.#abort.signal;
  }

  get error(): TensorwireError | undefined {
    return this.#error;
  }

  /** Rejects when the transfer fails. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /**
   * The life of one attempt, which ends with this one.
   * @param last What an attempt that fails ends everything with; `undefined` where there will be another one.
   */
  attempt(last: (error: TensorwireError) => TensorwireError | undefined): TransferLife {
    const attempt = new TransferLife(undefined);
    this.#attempt = attempt;
    attempt.#onFail = (error) => {
      if (this.#error) return;
      const end = last(error);
      if (end) this.fail(end);
    };
    if (this.#error) attempt.fail(this.#error);
    return attempt;
  }

  /** The first call decides. */
  fail(error: unknown, byPeer = false): void {
    if (this.#error) return;
    this.#error = asTensorwireError(error, "INTERNAL");
    this.#byPeer = byPeer;
    this.#failed.reject(this.#error);
    for (const reject of this.#racing) reject(this.#error);
    this.#racing.clear();
    this.#abort.abort(this.#error);
    this.#onFail?.(this.#error);
    this.#attempt?.fail(this.#error);
  }

  /** `work`, or the transfer's failure if that comes first. */
  race<T>(work: Promise<T>): Promise<T> {
    // Not Promise.race: every call would leave a reaction on a promise that lives as long as the transfer.
    return new Promise((resolve, reject) => {
      if (this.#error) reject(this.#error);
      this.#racing.add(reject);
      work.then(
        (value) => {
          this.#racing.delete(reject);
          resolve(value);
        },
        (error) => {
          this.#racing.delete(reject);
          reject(error);
        },
      );
    });
  }

  /**
   * What a source lends in its own time (a caller that trains between two tensors, a web server): a failure does not wait for
   * it, and it goes back when it comes.
   */
  borrow<T>(reading: Promise<T>, loanOf: (lent: T) => Loan): Promise<T> {
    reading.then(
      (lent) => this.#error && loanOf(lent).release(),
      () => {},
    );
    return this.race(reading);
  }

  /**
   * The way out of a failure: tells the peer, waits until `writing` has let go of the buffers that the channel reads, and
   * closes the connection if it was opened for this transfer, or if a frame is stuck half written in it.
   */
  async abandon(
    connection: Connection,
    to: { transfer: number; flags: number; owned: boolean },
    writing: Promise<unknown> = Promise.resolve(),
  ): Promise<void> {
    const error = this.#error!;
    const settled = writing.then(
      () => true,
      () => true,
    );
    // Of a transfer without a number a peer can be told only by the whole connection, which others may share.
    const tellable = to.transfer > 0 || to.owned;
    if (!this.#byPeer && tellable) {
      const type = error.code === "ABORTED" ? "CANCEL" : "ERROR";
      await withinGrace(connection.sendFault(type, to.transfer, to.flags, faultOf(error)));
    }
    const free = await withinGrace(settled);
    if (to.owned || !free) await connection.close(error);
    await settled;
  }

  /** The transfer is over, either way. */
  end(): void {
    this.signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** The error that an aborted signal stands for. */
export function abortError(reason: unknown): TensorwireError {
  if (reason instanceof TensorwireError) return reason;
  const words = reason instanceof Error ? reason.message : String(reason);
  return new TensorwireError("ABORTED", `the transfer was aborted: ${words}`, { cause: reason });
}
