import { TensorwireError } from "../errors.js";

/**
 * Runs synchronous jobs one after another, each in its own turn of the event loop, so that a long queue never keeps
 * sockets and timers waiting for more than one job.
 */
export class JobQueue {
  /** A set gives its members in the order they came, and lets go of any of them at once. */
  readonly #waiting = new Set<() => void>();
  readonly #signals = new Map<AbortSignal, AbortGroup>();
  #running = false;

  /**
   * The job's result, or what it threw.
   * @throws TensorwireError `ABORTED`, at once, where the signal is or becomes aborted before the job's turn.
   */
  run<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortedError(signal));
        return;
      }
      const abort = () => {
        this.#waiting.delete(job);
        reject(abortedError(signal!));
      };
      const job = () => {
        if (signal !== undefined) this.#leave(signal, abort);
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      };
      if (signal !== undefined) this.#join(signal, abort);
      this.#waiting.add(job);
      if (!this.#running) void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    this.#running = true;
    while (this.#waiting.size > 0) {
      await nextTurn();
      // What was aborted meanwhile is gone.
      for (const job of this.#waiting) {
        this.#waiting.delete(job);
        job();
        break;
      }
    }
    this.#running = false;
  }

  // One listener a signal, however many jobs share it: a transfer gives all of its jobs the same one, and Node warns of
  // a leak at eleven.
  #join(signal: AbortSignal, abort: () => void): void {
    let group = this.#signals.get(signal);
    if (group === undefined) {
      const aborts = new Set<() => void>();
      const listener = () => {
        this.#signals.delete(signal);
        for (const each of aborts) each();
      };
      group = { aborts, listener };
      this.#signals.set(signal, group);
      signal.addEventListener("abort", listener, { once: true });
    }
    group.aborts.add(abort);
  }

  #leave(signal: AbortSignal, abort: () => void): void {
    const group = this.#signals.get(signal);
    if (group === undefined) return;
    group.aborts.delete(abort);
    if (group.aborts.size > 0) return;
    this.#signals.delete(signal);
    signal.removeEventListener("abort", group.listener);
  }
}

/** The jobs that wait under one signal. */
interface AbortGroup {
  readonly aborts: Set<() => void>;
  readonly listener: () => void;
}

function abortedError(signal: AbortSignal): TensorwireError {
  return new TensorwireError("ABORTED", "the job was cancelled before it began", { cause: signal.reason });
}

/** The part of a browser's MessageChannel that is used here; Node's types describe it differently. */
interface WebMessageChannel {
  readonly port1: { onmessage: (() => void) | null; close(): void };
  readonly port2: { postMessage(message: unknown): void };
}

/** Resolves in a later turn of the event loop: after input and output had their chance, which a microtask leaves none. */
function nextTurn(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (done: () => void) => unknown };
  return new Promise((resolve) => {
    if (setImmediate !== undefined) {
      setImmediate(resolve);
      return;
    }
    // Browsers have no setImmediate, and hold setTimeout back by 4 ms.
    const { port1, port2 } = new MessageChannel() as unknown as WebMessageChannel;
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
