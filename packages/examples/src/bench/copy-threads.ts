import { Worker } from "node:worker_threads";
import { touchedMemory } from "./codec-memory.js";

/** What a thread is told: when to begin, and what to copy. */
export interface CopyOrder {
  /** A thread adds one when it is ready, and begins when all are. */
  readonly ready: SharedArrayBuffer;
  readonly threads: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** Copies for some time beside the other threads; gives GB/s. The time is the same for all: whoever is done early would leave the memory to the rest. */
export function copyBeside({ ready, threads, bytes, milliseconds }: CopyOrder): number {
  const source = touchedMemory(bytes);
  const target = touchedMemory(bytes);
  const count = new Int32Array(ready);
  Atomics.add(count, 0, 1);
  Atomics.notify(count, 0);
  for (let found = Atomics.load(count, 0); found < threads; found = Atomics.load(count, 0)) {
    Atomics.wait(count, 0, found);
  }
  const began = performance.now();
  let copied = 0;
  do {
    target.set(source);
    copied += bytes;
  } while (performance.now() - began < milliseconds);
  return copied / (performance.now() - began) / 1e6;
}

/**
 * GB/s that so many threads copy at the same time, all together: what the memory gives, beside which the codecs' figures on
 * two threads are to be read.
 */
export async function copySpeedOf(threads: number, bytes: number, milliseconds: number): Promise<number> {
  const order: CopyOrder = { ready: new SharedArrayBuffer(4), threads, bytes, milliseconds };
  const speeds = await Promise.all(
    Array.from(
      { length: threads },
      () =>
        new Promise<number>((resolve, reject) => {
          const worker = new Worker(new URL("./copy-thread.js", import.meta.url), { workerData: order });
          worker.once("message", resolve);
          worker.once("error", reject);
        }),
    ),
  );
  return speeds.reduce((sum, speed) => sum + speed, 0);
}
