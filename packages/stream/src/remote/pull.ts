import { TensorwireError } from "@tensorwire/core";
import { MemoryBudget } from "../budget/memory-budget.js";
import type { Endpoint } from "../channel/endpoint.js";
import type { ReceiveOptions } from "../receive-options.js";
import { Receiving } from "../receiving.js";
import type { RetryEvent } from "../session/retry.js";
import type { TransferSummary } from "../session/summary.js";
import type { Part, SinkModel } from "../sink/sink.js";
import { PartSink, type PulledChunk } from "./part-sink.js";

// What all connections of a source take is reserved by whoever reads it: none of them waits for memory by itself.
const RESERVED = new MemoryBudget(Number.MAX_SAFE_INTEGER);

export interface PullOptions extends ReceiveOptions {
  /** There are others: a first interruption of one that has not even been shown the model is the end of it. */
  readonly spare?: boolean | undefined;
}

/** One connection that brings its part of a model: an ordinary call, whose sink hands chunks over. */
export class Pull {
  readonly #sink = new PartSink();
  readonly #stop = new AbortController();
  readonly #done: Promise<TransferSummary>;
  /** Nobody wants it any more. */
  stopped = false;

  constructor(url: Endpoint, { spare = false, ...options }: PullOptions) {
    const retry = spare ? this.#once(options.retry) : options.retry;
    const own = { ...options, retry, signal: this.#stop.signal, budget: RESERVED, to: this.#sink };
    this.#done = new Receiving(url, own).done;
    this.#done.catch((error) => this.#sink.abort(error));
  }

  /** The caller's retry, from when a model has been announced. */
  #once(retry: ReceiveOptions["retry"]): ReceiveOptions["retry"] {
    if (!retry) return retry;
    const options = retry === true ? {} : retry;
    const onRetry = (event: RetryEvent): void => {
      if (this.#sink.known) options.onRetry?.(event);
      else this.#stop.abort(event.error);
    };
    return { ...options, onRetry };
  }

  /** What the peer announces, once it is here and valid. */
  get announced(): Promise<SinkModel> {
    return this.#sink.announced;
  }

  /** As of a `PartSink`. */
  ask(part: Part): void {
    this.#sink.ask(part);
  }

  take(): Promise<PulledChunk> {
    return this.#sink.take();
  }

  /** All of its part has come, and its digest is right. */
  get done(): Promise<unknown> {
    return this.#done;
  }

  /** Ends it, whatever it is at. Resolves when every buffer is back. */
  async stop(): Promise<void> {
    this.stopped = true;
    const error = new TensorwireError("ABORTED", "nobody reads on");
    this.#stop.abort(error);
    // It may wait to hear what to bring: that is no call that its failure could end.
    await this.#sink.abort(error);
    await this.#done.catch(() => {});
  }
}
