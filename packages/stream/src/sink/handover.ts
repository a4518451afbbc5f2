import { TensorwireError } from "@tensorwire/core";
import { type Deferred, deferred, pending } from "../session/deferred.js";

/**
 * Where a sink meets the consumer of an async iterator: nothing is queued. The sink waits until the consumer asks, and
 * knows by the consumer's next step that it is done with what it was given.
 */
export class Handover<T> {
  /** The consumer's `next()` that waits for an answer. */
  #asking: Deferred<IteratorResult<T, undefined>> | undefined;
  /** The sink, waiting for the consumer to ask. */
  #wanted: Deferred<void> | undefined;
  #failure: TensorwireError | undefined;
  #done = false;
  #complete = false;
  /** Called when the consumer stops before everything was given. */
  onReturn: (() => void) | undefined;

  /** Whether the consumer has asked: `wanted` would resolve at once. */
  get asked(): boolean {
    return !this.#failure && (this.#asking !== undefined || this.#done);
  }

  /** Resolves when the consumer asks for the next value, done with the last one. */
  wanted(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#asking || this.#done) return Promise.resolve();
    this.#wanted ??= pending<void>();
    return this.#wanted.promise;
  }

  /** Answers the consumer, who has asked. `last`: nothing more will come, so that stopping now is no loss. */
  put(value: T, last: boolean): void {
    this.#complete ||= last;
    const asking = this.#asking;
    this.#asking = undefined;
    asking?.resolve({ done: false, value });
  }

  /** Tells the consumer that it has everything. */
  end(): void {
    this.#complete = true;
    this.#done = true;
    this.#asking?.resolve({ done: true, value: undefined });
    this.#asking = undefined;
  }

  /** The consumer, now or at its next step, gets the error. */
  fail(error: TensorwireError): void {
    if (this.#failure || this.#done) return;
    this.#failure = error;
    this.#wanted?.reject(error);
    if (!this.#asking) return;
    this.#done = true;
    this.#asking.reject(error);
    this.#asking = undefined;
  }

  iterator(): AsyncIterator<T, undefined> & AsyncIterable<T> {
    const iterator = {
      next: () => this.#ask(),
      return: async (): Promise<IteratorResult<T, undefined>> => {
        this.#leave();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  #ask(): Promise<IteratorResult<T, undefined>> {
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    if (this.#failure) {
      this.#done = true;
      return Promise.reject(this.#failure);
    }
    if (this.#asking) {
      const message = "next() was called again before it had answered";
      return Promise.reject(new TensorwireError("INVALID_ARGUMENT", message));
    }
    const asking = deferred<IteratorResult<T, undefined>>();
    this.#asking = asking;
    this.#release();
    return asking.promise;
  }

  #leave(): void {
    if (this.#done) return;
    this.#done = true;
    this.#asking?.resolve({ done: true, value: undefined });
    this.#asking = undefined;
    this.#release();
    if (!this.#complete && !this.#failure) this.onReturn?.();
  }

  #release(): void {
    this.#wanted?.resolve();
    this.#wanted = undefined;
  }
}
