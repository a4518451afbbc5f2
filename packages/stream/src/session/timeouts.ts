import { TensorwireError } from "@tensorwire/core";

/** The two clocks that there are. Each of them only runs while nothing moves. */
export interface TimeoutOptions {
  /**
   * A peer from which no whole frame has come for so many milliseconds, not even a heartbeat, is gone: `IDLE_TIMEOUT`. The
   * peer is told of it, and sends heartbeats. On a channel without a way back there is none. Default 120,000; 0 turns it
   * off.
   */
  readonly idleTimeoutMs?: number | undefined;
  /**
   * A peer that lives, and for which this side has waited so many milliseconds without a chunk, a credit or an
   * acknowledgement, is given up: `STALL_TIMEOUT`. Time in which this side is the slow one does not count. Default 0, which
   * is never.
   */
  readonly stallTimeoutMs?: number | undefined;
}

export type Timeouts = { readonly [name in keyof TimeoutOptions]-?: number };

/** A heartbeat every 40 s where nothing else is said; a chunk of 4 MiB passes on any line of 38 kB/s. */
export const DEFAULT_IDLE_TIMEOUT_MS = 120_000;

/** What a server waits for its clients, where nobody says otherwise. */
export const SERVER_STALL_TIMEOUT_MS = 600_000;

/** Below it, a loaded machine would be taken for a dead one. */
export const MIN_TIMEOUT_MS = 100;

// Node's timers go to 25 days.
export const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Fills in the defaults. @throws TensorwireError `INVALID_ARGUMENT`. */
export function resolveTimeouts({ idleTimeoutMs, stallTimeoutMs }: TimeoutOptions): Timeouts {
  return {
    idleTimeoutMs: checkTimeout("idleTimeoutMs", idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS),
    stallTimeoutMs: checkTimeout("stallTimeoutMs", stallTimeoutMs ?? 0),
  };
}

function checkTimeout(name: string, milliseconds: number): number {
  const possible = Number.isSafeInteger(milliseconds) && milliseconds <= MAX_TIMEOUT_MS;
  if (milliseconds === 0 || (possible && milliseconds >= MIN_TIMEOUT_MS)) return milliseconds;
  throw new TensorwireError(
    "INVALID_ARGUMENT",
    `${name} must be 0, for never, or an integer from ${MIN_TIMEOUT_MS} to ${MAX_TIMEOUT_MS}, not ${milliseconds}`,
  );
}
