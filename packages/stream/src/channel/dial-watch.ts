import { TensorwireError } from "@tensorwire/core";
import { shownUrl } from "./address.js";

/**
 * Dials, unless the other end stays silent for `idleTimeoutMs`: a host can take a connection for a program that never
 * says a word on it. 0: waits for ever.
 * @throws TensorwireError `IDLE_TIMEOUT`; what `signal` was aborted with.
 */
export async function dialWithin<T>(
  url: string,
  idleTimeoutMs: number,
  signal: AbortSignal | undefined,
  dial: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  // Not AbortSignal.any: what it makes is kept for as long as the caller's signal lives.
  const either = new AbortController();
  const onAbort = (): void => either.abort(signal!.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer =
    idleTimeoutMs > 0 && setTimeout(() => either.abort(silent(url, idleTimeoutMs)), idleTimeoutMs).unref();
  try {
    return await dial(either.signal);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    if (timer) clearTimeout(timer);
  }
}

const silent = (url: string, idleTimeoutMs: number): TensorwireError =>
  new TensorwireError(
    "IDLE_TIMEOUT",
    `cannot reach ${shownUrl(url)}: no answer for ${idleTimeoutMs} ms: try again, or raise idleTimeoutMs`,
  );
