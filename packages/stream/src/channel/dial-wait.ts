import { setTimeout as sleep } from "node:timers/promises";
import { TensorwireError } from "@tensorwire/core";
import type { IBackoff } from "cockatiel";
import { MAX_TIMEOUT_MS } from "../session/timeouts.js";

/** For whoever is started before the one who listens. */
export interface DialWait {
  /**
   * A URL where nobody listens yet is dialled again for so many milliseconds, before it is `CHANNEL_OPEN`: both ends can be
   * started at once, in any order. With `retry`, for so long at each attempt. Default 0: it is dialled once.
   */
  readonly waitMs?: number | undefined;
}

/** Two ends that are started together differ by about this much. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;

/**
 * Dials until somebody listens, or `waitMs` are over. What another try cannot mend (a certificate, a refusal, a status of the
 * 400s) ends it at once.
 * @throws TensorwireError `INVALID_ARGUMENT`; what `dial` throws; what `signal` was aborted with.
 */
export async function dialWhenListening<T>(
  waitMs: number | undefined,
  signal: AbortSignal | undefined,
  dial: () => Promise<T>,
): Promise<T> {
  if (waitMs === undefined || waitMs === 0) return dial();
  checkWait(waitMs);
  const until = performance.now() + waitMs;
  let backoff: IBackoff<unknown> | undefined;
  for (;;) {
    try {
      return await dial();
    } catch (error) {
      if (!mayListenYet(error)) throw error;
      const left = until - performance.now();
      if (left <= 0) throw nobodyCame(error, waitMs);
      backoff = backoff ? backoff.next(undefined) : await freshBackoff();
      await sleep(Math.min(backoff.duration, left), undefined, { signal }).catch(() => {});
      signal?.throwIfAborted();
    }
  }
}

async function freshBackoff(): Promise<IBackoff<unknown>> {
  // Loaded when nobody listens yet, as few ever see.
  const { ExponentialBackoff } = await import("cockatiel");
  return new ExponentialBackoff({ initialDelay: FIRST_PAUSE_MS, maxDelay: LONGEST_PAUSE_MS }).next();
}

function checkWait(waitMs: number): void {
  if (Number.isSafeInteger(waitMs) && waitMs > 0 && waitMs <= MAX_TIMEOUT_MS) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `dial.waitMs must be an integer from 0 to ${MAX_TIMEOUT_MS}, not ${waitMs}`,
  );
}

/** The port is closed, the socket or the name is not there, a proxy has nobody behind it: all that may yet change. */
const mayListenYet = (error: unknown): error is TensorwireError =>
  error instanceof TensorwireError && error.code === "CHANNEL_OPEN" && error.retryable;

const nobodyCame = (cause: TensorwireError, waitMs: number): TensorwireError =>
  new TensorwireError(
    cause.code,
    `${cause.message}, and ${waitMs} ms later it was still so: start the other side, or check the address`,
    { cause },
  );
