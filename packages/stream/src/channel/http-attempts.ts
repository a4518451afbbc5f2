import { setTimeout as pause } from "node:timers/promises";
import { TensorwireError } from "@tensorwire/core";

/** An answer with another status than the one that was asked for. */
export class StatusError extends Error {
  constructor(readonly status: number) {
    super(`a request was answered with status ${status}`);
  }
}

/**
 * Milliseconds before each repetition of a request that did not get through. All of them together are less than the server
 * waits for a peer whose connection broke, and more than a proxy takes to start again.
 */
export const PAUSES_MS = [0, 100, 300, 900, 2700];

/** Repetitions of a request that does not get through: so many, until there is progress. */
export class Attempts {
  #made = 0;

  /** @param what What broke, for messages. */
  constructor(private readonly what = "the HTTP channel") {}

  progress(): void {
    this.#made = 0;
  }

  /** Resolves when it is time for another. @throws TensorwireError `CHANNEL_CLOSED` where that is of no use, or was enough. */
  async again(cause: unknown, signal: AbortSignal): Promise<void> {
    if (cause instanceof TensorwireError) throw cause;
    if (cause instanceof StatusError && !isPassing(cause.status)) throw ended(this.what, cause);
    const milliseconds = PAUSES_MS[this.#made++];
    if (milliseconds === undefined) {
      const { message } = cause as Error;
      throw new TensorwireError("CHANNEL_CLOSED", `${this.what} broke, and could not be mended: ${message}`, {
        cause,
      });
    }
    // Not all at once, where many wait for the same proxy.
    if (milliseconds > 0) await pause(milliseconds * (0.5 + Math.random() / 2), undefined, { signal });
  }
}

// 200: an answer that something between has changed. 409: an earlier body is missing. The others say themselves that they may pass.
function isPassing(status: number): boolean {
  return status === 200 || status === 408 || status === 409 || status === 429 || status >= 500;
}

function ended(what: string, cause: StatusError): TensorwireError {
  const words =
    cause.status === 404 || cause.status === 410
      ? "the server knows the transfer URL no longer"
      : `the server, or something before it, answers with status ${cause.status}`;
  return new TensorwireError("CHANNEL_CLOSED", `${what} broke: ${words}`, { cause });
}
