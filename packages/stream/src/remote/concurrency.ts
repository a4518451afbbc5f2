import { TensorwireError } from "@tensorwire/core";

/** Requests at once, unless the caller says otherwise: what a browser takes of one server. */
export const DEFAULT_CONCURRENCY = 4;

/** More connections than that, and a server takes one client for a crowd. */
export const MAX_CONCURRENCY = 64;

/** @throws TensorwireError `INVALID_ARGUMENT`. */
export function checkConcurrency(concurrency: number | undefined): void {
  if (concurrency === undefined) return;
  if (Number.isSafeInteger(concurrency) && concurrency >= 1 && concurrency <= MAX_CONCURRENCY) return;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `concurrency is an integer from 1 to ${MAX_CONCURRENCY}, not ${String(concurrency)}`,
  );
}
