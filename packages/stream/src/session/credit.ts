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

/** The receiver's side: how many source bytes it has granted, seen arrive, and finished with. */
export class CreditLedger {
  #arrived = 0;
  #finished = 0;
  #granted: number;
  #announced = 0;

  /** @param windowBytes Source bytes that may be in flight. */
  constructor(readonly windowBytes: number) {
    this.#granted = windowBytes;
  }

  get finished(): number {
    return this.#finished;
  }

  get limit(): number {
    return this.#granted;
  }

  /** Source bytes that arrived and are not finished with. */
  get held(): number {
    return this.#arrived - this.#finished;
  }

  /** A chunk is about to arrive. @throws TensorwireError `CREDIT_EXCEEDED`, where credit is `enforced`. */
  arrive(bytes: number, enforced: boolean): void {
    if (enforced && this.#arrived + bytes > this.#granted) {
      throw new TensorwireError(
        "CREDIT_EXCEEDED",
        `the peer sent ${this.#arrived + bytes} source bytes where ${this.#granted} were granted`,
      );
    }
    this.#arrived += bytes;
  }

  /** The sink is done with a chunk. True when it is time to tell the peer: every eighth of the window. */
  finish(bytes: number): boolean {
    this.#finished += bytes;
    this.#granted = this.#finished + this.windowBytes;
    if (this.#finished - this.#announced < this.windowBytes / 8) return false;
    this.#announced = this.#finished;
    return true;
  }
}
