import { TensorwireError } from "../errors.js";

interface Queued {
  run(): void;
}

/**
 * Runs synchronous jobs one after another, each in its own turn of the event loop, so that a long queue never keeps
 * sockets and timers waiting for more than one job.
 */
export class JobQueue {
  readonly #waiting = new Set<Queued>();
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
      const job: Queued = {
        run() {
          signal?.removeEventListener("abort", abort);
          try {
            resolve(work());
          } catch (error) {
            reject(error);
          }
        },
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.add(job);
      if (!this.#running) void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    this.#running = true;
    while (this.#waiting.size > 0) {
      await nextTurn();
      // Whatever was aborted meanwhile is gone; a set gives the others in the order they came.
      for (const job of this.#waiting) {
        this.#waiting.delete(job);
        job.run();
        break;
      }
    }
    this.#running = false;
  }
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
