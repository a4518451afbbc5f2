import { setTimeout as sleep } from "node:timers/promises";
import { TensorwireError } from "@tensorwire/core";
import type { IBackoff } from "cockatiel";
import type { TransferTrace } from "../diagnostics/transfer-trace.js";
import { isInterruption } from "./interruption.js";
import type { TransferLife } from "./transfer.js";

/** How a transfer goes on by itself when it is interrupted. */
export interface RetryOptions {
  /** Attempts in a row that bring nothing, after which it gives up. Default 10. */
  readonly attempts?: number | undefined;
  /** How long about to wait before the first, in milliseconds; longer from one to the next. Default 500. */
  readonly initialDelayMs?: number | undefined;
  /** Default 30,000. */
  readonly maxDelayMs?: number | undefined;
  /** Told before each wait. */
  readonly onRetry?: ((event: RetryEvent) => void) | undefined;
}

/** What `onRetry` is told. */
export interface RetryEvent {
  /** What interrupted the transfer. */
  readonly error: TensorwireError;
  /** Which attempt in a row without progress the next one is, from 1, and how many there will be. */
  readonly attempt: number;
  /** How many there may be without progress. */
  readonly attempts: number;
  /** How long until then, in milliseconds; 0 where a listener waits for the next peer. */
  readonly delayMs: number;
}

export const RETRY_DEFAULTS = { attempts: 10, initialDelayMs: 500, maxDelayMs: 30_000 } as const;

export interface RetrySettings {
  /** `undefined`: the first interruption is the end. */
  readonly options: RetryOptions | undefined;
  /** Of the whole call. */
  readonly life: TransferLife;
  readonly trace: TransferTrace;
  /** Peers come here: there is nothing to dial, and nobody to spare. */
  readonly listening: boolean;
  /** Source bytes that are where they belong. */
  readonly position: () => number;
  /** Another attempt begins. */
  readonly retrying: () => void;
}

/** @throws TensorwireError `INVALID_ARGUMENT` for numbers that are none. */
export function resolveRetry(retry: RetryOptions | boolean | undefined): RetryOptions | undefined {
  if (!retry) return undefined;
  const options = retry === true ? {} : retry;
  for (const name of ["attempts", "initialDelayMs", "maxDelayMs"] as const) {
    const value = options[name];
    if (value === undefined || (Number.isSafeInteger(value) && value >= (name === "attempts" ? 0 : 1)))
      continue;
    throw new TensorwireError("INVALID_ARGUMENT", `retry.${name} is a count, not ${String(value)}`);
  }
  return options.attempts === 0 ? undefined : options;
}

/**
 * Attempts at one transfer, until one ends well, or with what no other attempt can mend. How many there may be is counted
 * from the last one that brought the transfer further than it ever was.
 */
export class Retries {
  #reached = false;
  #complete = false;
  #furthest = 0;
  #failures: TensorwireError[] = [];
  /** From the first wait since there was progress. */
  #backoff: IBackoff<unknown> | undefined;

  constructor(private readonly settings: RetrySettings) {}

  async #freshBackoff(): Promise<IBackoff<unknown>> {
    const { options } = this.settings;
    // Loaded when something has failed, which most transfers never do.
    const { ExponentialBackoff } = await import("cockatiel");
    return new ExponentialBackoff({
      initialDelay: options?.initialDelayMs ?? RETRY_DEFAULTS.initialDelayMs,
      maxDelay: options?.maxDelayMs ?? RETRY_DEFAULTS.maxDelayMs,
    }).next();
  }

  /** A peer has said who it is: from here on there is something to be interrupted. */
  reached(): void {
    this.#reached = true;
  }

  /** Everything is where it belongs: nothing that fails now is a reason to try again. */
  complete(): void {
    this.#complete = true;
  }

  /** @throws TensorwireError what the call ends with. */
  async run<T>(attempt: (life: TransferLife) => Promise<T>): Promise<T> {
    const { life, retrying } = this.settings;
    for (;;) {
      const own = life.attempt((error) => this.#last(error));
      try {
        return await attempt(own);
      } catch (error) {
        own.fail(error);
        if (life.error) throw life.error;
        await this.#pause(own.error!);
        retrying();
      }
    }
  }

  /** What an attempt that fails so ends the call with; `undefined` where there will be another one. */
  #last(error: TensorwireError): TensorwireError | undefined {
    const { options, position } = this.settings;
    // A server that says "later" has answered, also where it says so before there is a channel.
    if (error.code === "SERVER_BUSY") this.#reached = true;
    // Who never answered is more likely to be at another address, or to want another certificate.
    if (!options || !this.#reached || this.#complete || !mayPass(error)) return error;
    if (position() > this.#furthest) {
      this.#furthest = position();
      this.#failures = [];
      this.#backoff = undefined;
    }
    this.#failures.push(error);
    const { attempts = RETRY_DEFAULTS.attempts } = options;
    return this.#failures.length > attempts ? givenUp(this.#failures) : undefined;
  }

  async #pause(error: TensorwireError): Promise<void> {
    const { options, life, trace, listening } = this.settings;
    if (!listening) this.#backoff ??= await this.#freshBackoff();
    const delayMs = this.#backoff?.duration ?? 0;
    const { attempts = RETRY_DEFAULTS.attempts } = options!;
    trace.retry(this.#failures.length, delayMs, error);
    try {
      options?.onRetry?.({ error, attempt: this.#failures.length, attempts, delayMs });
    } catch (cause) {
      life.fail(new TensorwireError("INVALID_ARGUMENT", `onRetry threw: ${String(cause)}`, { cause }));
      throw life.error;
    }
    if (listening) return;
    this.#backoff = this.#backoff?.next(undefined);
    // Aborted with the transfer, whose error it is then.
    await sleep(delayMs, undefined, { signal: life.jobs }).catch(() => {});
    if (life.error) throw life.error;
  }
}

/** Whether another attempt can pass over what failed this one: the peer was away, or the way between. */
function mayPass(error: TensorwireError): boolean {
  return error.retryable && isInterruption(error) && error.code !== "TARGET_FULL";
}

/** The first cause; and how the attempts after it ended. */
function givenUp(failures: readonly TensorwireError[]): TensorwireError {
  const [first, last] = [failures[0]!, failures.at(-1)!];
  const later = failures.length - 1;
  const message = `${first.message}; ${later} more attempts brought nothing, the last one ended with ${last.code}: ${last.message}`;
  const { code, retryable, peerCode } = first;
  return new TensorwireError(code, message, { cause: first, retryable, peerCode });
}
