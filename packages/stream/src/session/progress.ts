import { TensorwireError } from "@tensorwire/core";

/** What `onProgress` is told, at most every 100 ms, and once at the end. */
export interface ProgressEvent {
  /** `done` comes once, after the receipt; until then nothing is complete. */
  readonly phase: "transfer" | "done";
  /** Source bytes of the whole transfer. */
  readonly totalBytes: number;
  /** Source bytes sent, or received, so far, and those that were there before. */
  readonly sourceBytes: number;
  /** Source bytes that the receiver's sink has finished with. */
  readonly acknowledgedBytes: number;
  /**
   * Source bytes that are durable at the receiver, as it says: an interruption of either process does not take them back. Of
   * a sink that makes no checkpoints, those that it had when the peers met.
   */
  readonly durableBytes: number;
  /** Source bytes that an earlier call had brought already. */
  readonly resumedBytes: number;
  /** How often this call has connected again after an interruption. */
  readonly retries: number;
  /** Bytes on the wire so far, of all attempts. */
  readonly wireBytes: number;
  /** Tensors whose last chunk was sent, or received, and all of them. */
  readonly tensors: number;
  /** Tensors of the transfer. */
  readonly totalTensors: number;
  /** Source bytes a second over the last seconds. */
  readonly bytesPerSecond: number;
  /** Seconds since the transfer began. */
  readonly seconds: number;
}

const INTERVAL_MS = 100;
const RATE_WINDOW_MS = 5000;

/** Counts a transfer's progress and reports it at a bounded rate. */
export class Progress {
  sourceBytes = 0;
  acknowledgedBytes = 0;
  durableBytes = 0;
  resumedBytes = 0;
  retries = 0;
  wireBytes = 0;
  tensors = 0;
  totalBytes = 0;
  totalTensors = 0;
  #begun = false;
  readonly #started = performance.now();
  #reported = 0;
  /** Recent positions, `[time, source bytes]`, a few a second. */
  readonly #recent: [number, number][] = [];

  /** @param fail What the listener throws in the middle of a transfer fails the transfer, and goes nowhere else. */
  constructor(
    private readonly listener: ((event: ProgressEvent) => void) | undefined,
    private readonly fail: (error: TensorwireError) => void,
  ) {}

  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** The peers have met: so much of the model, and so many tensors, are there already. */
  begin(heldBytes: number, tensors: number): void {
    this.sourceBytes = heldBytes;
    this.acknowledgedBytes = heldBytes;
    this.durableBytes = heldBytes;
    this.tensors = tensors;
    // What earlier attempts of this call brought was not there before it.
    if (!this.#begun) this.resumedBytes = heldBytes;
    this.#begun = true;
    // What was there before was not moved now, and says nothing of the rate.
    this.#recent.length = 0;
    this.#recent.push([performance.now(), heldBytes]);
    if (heldBytes > 0) this.tick();
  }

  /** Something moved. */
  tick(): void {
    if (!this.listener) return;
    const now = performance.now();
    if (now - this.#reported < INTERVAL_MS) return;
    this.#reported = now;
    try {
      this.#tell("transfer");
    } catch (error) {
      this.fail(error as TensorwireError);
    }
  }

  /** Everything is where it belongs. @throws TensorwireError `INVALID_ARGUMENT` where the listener throws. */
  done(): void {
    this.#tell("done");
  }

  #tell(phase: ProgressEvent["phase"]): void {
    try {
      this.listener?.(this.#event(phase));
    } catch (cause) {
      throw new TensorwireError("INVALID_ARGUMENT", `onProgress threw: ${String(cause)}`, { cause });
    }
  }

  #event(phase: ProgressEvent["phase"]): ProgressEvent {
    const { totalBytes, sourceBytes, acknowledgedBytes, durableBytes, resumedBytes } = this;
    const { retries, wireBytes, tensors, totalTensors, seconds } = this;
    return {
      phase,
      totalBytes,
      sourceBytes,
      acknowledgedBytes,
      durableBytes,
      resumedBytes,
      retries,
      wireBytes,
      tensors,
      totalTensors,
      bytesPerSecond: this.#rate(),
      seconds,
    };
  }

  #rate(): number {
    const now = performance.now();
    this.#recent.push([now, this.sourceBytes]);
    while (this.#recent.length > 2 && now - this.#recent[0]![0] > RATE_WINDOW_MS) this.#recent.shift();
    const [time, bytes] = this.#recent.length > 1 ? this.#recent[0]! : [this.#started, 0];
    return now > time ? ((this.sourceBytes - bytes) * 1000) / (now - time) : 0;
  }
}
