import { type ProcStatus, readProcStatus } from "./proc-status.js";

const INTERVAL_MS = 20;

/** A process's memory at a time. */
export interface MemorySample {
  /** Seconds since the sampler was started. */
  readonly at: number;
  readonly rssBytes: number;
  readonly anonBytes: number;
}

/** What a transfer did to a process's memory. */
export interface MemoryCurve {
  /** Before the transfer, with everything imported. */
  readonly base: ProcStatus;
  readonly peakBytes: number;
  readonly peakAnonBytes: number;
  readonly samples: readonly MemorySample[];
}

/** Looks at another process's memory, many times a second: from outside, so that looking costs it nothing. */
export class MemorySampler {
  readonly #base: ProcStatus;
  readonly #samples: MemorySample[] = [];
  readonly #started = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(readonly pid: number) {
    this.#base = this.#status();
    this.#sample(this.#base);
    this.#timer = setInterval(() => {
      const status = readProcStatus(pid);
      if (status) this.#sample(status);
    }, INTERVAL_MS);
  }

  #status(): ProcStatus {
    const status = readProcStatus(this.pid);
    if (!status) throw new Error(`/proc/${this.pid}/status says nothing of memory: the process is gone`);
    return status;
  }

  #sample({ rssBytes, anonBytes }: ProcStatus): void {
    this.#samples.push({ at: (performance.now() - this.#started) / 1000, rssBytes, anonBytes });
  }

  /** Stops looking. */
  cancel(): void {
    clearInterval(this.#timer);
  }

  /** Stops looking, and sums up. While the process still runs: its last words are the kernel's peak. */
  stop(): MemoryCurve {
    this.cancel();
    const last = this.#status();
    this.#sample(last);
    return {
      base: this.#base,
      peakBytes: last.peakBytes,
      peakAnonBytes: this.#samples.reduce((most, { anonBytes }) => Math.max(most, anonBytes), 0),
      samples: this.#samples,
    };
  }
}
