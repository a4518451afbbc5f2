import { setTimeout as sleep } from "node:timers/promises";
import { asTensorwireError } from "@tensorwire/core";
import { ExponentialBackoff } from "cockatiel";
import { isInterruption } from "../session/interruption.js";
import type { ProgressEvent } from "../session/progress.js";
import type { MoveContext } from "./agent-transfer.js";

const BACKOFF = { initialDelay: 200, maxDelay: 5000 } as const;

/**
 * Tries again after each interruption, also where the other side has not answered yet: it may be the one that is being started
 * anew. Ends when nothing has moved for `patienceMs`, and with what nobody's patience mends.
 */
export async function patiently<T>(
  patienceMs: number,
  { signal, progress, interrupted }: MoveContext,
  attempt: (onProgress: (event: ProgressEvent) => void) => Promise<T>,
): Promise<T> {
  let backoff = new ExponentialBackoff(BACKOFF).next();
  let furthest = -1;
  let moved = performance.now();
  const onProgress = (event: ProgressEvent): void => {
    if (event.acknowledgedBytes > furthest) {
      furthest = event.acknowledgedBytes;
      moved = performance.now();
      backoff = new ExponentialBackoff(BACKOFF).next();
      interrupted(undefined);
    }
    progress(event);
  };
  for (;;) {
    try {
      return await attempt(onProgress);
    } catch (cause) {
      const error = asTensorwireError(cause, "INTERNAL");
      const mends = error.retryable && isInterruption(error) && error.code !== "TARGET_FULL";
      if (signal.aborted || !mends || performance.now() - moved > patienceMs) throw error;
      interrupted(error);
      await sleep(backoff.duration, undefined, { signal }).catch(() => {});
      backoff = backoff.next(undefined);
      if (signal.aborted) throw error;
    }
  }
}
