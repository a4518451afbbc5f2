import { type Deferred, deferred } from "../session/deferred.js";

/** Where bytes go to by position. */
export interface Positioned {
  /** The bytes are lent until it resolves. */
  write(bytes: Uint8Array, position: number): Promise<void>;
}

/** Bytes from here on are worth a write of their own: joining them would cost more in copying than it saves in calls. */
export const LARGE_BYTES = 256 * 1024;
/** The longest joined write. */
const RUN_BYTES = 1024 * 1024;
// One run is collected while the other is written.
const RUNS = 2;
/** What joined writes take, at most. */
export const JOINED_BYTES = RUNS * RUN_BYTES;

/** Bytes that adjoin, collected. */
interface Run {
  readonly bytes: Uint8Array;
  target: Positioned;
  position: number;
  length: number;
}

/**
 * Joins small writes that adjoin into larger ones, so that 10,000 tensors of 1 KiB are about ten writes. Holds two buffers
 * of 1 MiB at most, which it uses again; small bytes are copied, so that their owner has them back at once.
 */
export class AdjoiningWrites {
  #run: Run | undefined;
  readonly #spare: Uint8Array[] = [];
  #allocated = 0;
  readonly #underWay = new Set<Promise<void>>();
  /** Small writes that wait for a buffer, in turn. */
  #line: Promise<void> | undefined;
  #change: Deferred<void> | undefined;
  #failed: { readonly error: unknown } | undefined;

  /**
   * Takes bytes for `position` of `target`. `undefined`: they were copied, and may be used again; else they are lent until the
   * promise resolves. A joined write that failed shows at one of the next calls, or at `flush`.
   */
  write(target: Positioned, position: number, bytes: Uint8Array): Promise<void> | undefined {
    if (this.#failed) return Promise.reject(this.#failed.error);
    if (bytes.length >= LARGE_BYTES) {
      this.#send();
      return target.write(bytes, position);
    }
    if (!this.#line && this.#copy(target, position, bytes)) return undefined;
    const waiting = this.#wait(this.#line, target, position, bytes);
    this.#line = waiting;
    const settled = (): void => {
      if (this.#line === waiting) this.#line = undefined;
    };
    waiting.then(settled, settled);
    return waiting;
  }

  /** Writes what is collected, and waits for it. */
  async flush(): Promise<void> {
    await this.#line?.catch(() => {});
    this.#send();
    await this.#sent();
  }

  /** Writes what was copied before the call, and waits for it, while more is taken. */
  async settle(): Promise<void> {
    this.#send();
    await this.#sent();
  }

  async #sent(): Promise<void> {
    await Promise.all(this.#underWay);
    if (this.#failed) throw this.#failed.error;
  }

  async #wait(
    before: Promise<void> | undefined,
    target: Positioned,
    position: number,
    bytes: Uint8Array,
  ): Promise<void> {
    await before;
    while (!this.#copy(target, position, bytes)) await this.#changed();
  }

  /** False where both buffers are taken. */
  #copy(target: Positioned, position: number, bytes: Uint8Array): boolean {
    if (this.#failed) throw this.#failed.error;
    let run = this.#run;
    if (run && !adjoins(run, target, position, bytes.length)) {
      this.#send();
      run = undefined;
    }
    run ??= this.#begin(target, position);
    if (!run) return false;
    run.bytes.set(bytes, run.length);
    run.length += bytes.length;
    if (run.length === RUN_BYTES) this.#send();
    return true;
  }

  #begin(target: Positioned, position: number): Run | undefined {
    const bytes = this.#spare.pop() ?? this.#allocate();
    if (bytes) this.#run = { bytes, target, position, length: 0 };
    return this.#run;
  }

  #allocate(): Uint8Array | undefined {
    if (this.#allocated === RUNS) return undefined;
    this.#allocated++;
    return new Uint8Array(RUN_BYTES);
  }

  /** Begins to write what is collected. */
  #send(): void {
    const run = this.#run;
    this.#run = undefined;
    if (!run) return;
    const settle = (failed?: { readonly error: unknown }): void => {
      this.#underWay.delete(writing);
      this.#spare.push(run.bytes);
      this.#failed ??= failed;
      const change = this.#change;
      this.#change = undefined;
      change?.resolve();
    };
    const writing = run.target.write(run.bytes.subarray(0, run.length), run.position).then(
      () => settle(),
      (error) => settle({ error }),
    );
    this.#underWay.add(writing);
  }

  #changed(): Promise<void> {
    this.#change ??= deferred<void>();
    return this.#change.promise;
  }
}

function adjoins(run: Run, target: Positioned, position: number, length: number): boolean {
  return run.target === target && run.position + run.length === position && run.length + length <= RUN_BYTES;
}
