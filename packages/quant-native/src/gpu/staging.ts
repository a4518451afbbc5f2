import { TensorwireError } from "@tensorwire/core";
import { onAbort } from "../abort-listener.js";
import { type GpuBuffer, type GpuDevice, USAGE } from "./web-gpu.js";

/** What buffers between a host and its device are for. */
const KINDS = {
  /** What kernels read. */
  input: USAGE.STORAGE | USAGE.COPY_DST,
  /** What they write. */
  output: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST,
  /** Mapped, to be read by the host. */
  readback: USAGE.MAP_READ | USAGE.COPY_DST,
  /** Mapped, to be written by the host. */
  upload: USAGE.MAP_WRITE | USAGE.COPY_SRC,
  /** A kernel's parameters. */
  parameters: USAGE.UNIFORM | USAGE.COPY_DST,
} as const;

export type StagingKind = keyof typeof KINDS;

/** What one job takes. */
export type StagingNeed = Readonly<Partial<Record<StagingKind, number | undefined>>>;

const LEAST_BYTES = 256;

/** Sizes that buffers have: a few for each power of two, so that chunks of about a size share them. */
function roomFor(bytes: number): number {
  const step = Math.max(LEAST_BYTES, 2 ** Math.floor(Math.log2(Math.max(bytes, 1))) / 4);
  return Math.ceil(bytes / step) * step;
}

interface Waiting {
  readonly bytes: number;
  begin(): void;
}

/** The buffers of one job, until it gives them back. */
export class StagingLoan {
  readonly #buffers = new Map<StagingKind, GpuBuffer>();

  constructor(
    private readonly pool: Staging,
    readonly need: StagingNeed,
  ) {}

  /** The job's buffer of a kind, at least as large as it was asked for. */
  buffer(kind: StagingKind): GpuBuffer {
    let buffer = this.#buffers.get(kind);
    if (buffer === undefined) {
      buffer = this.pool.take(kind, this.need[kind] ?? 0);
      this.#buffers.set(kind, buffer);
    }
    return buffer;
  }

  /** @param reuse whether the buffers are as good as before; else they are destroyed. */
  release(reuse: boolean): void {
    for (const [kind, buffer] of this.#buffers) this.pool.give(kind, buffer, reuse);
    this.#buffers.clear();
    this.pool.end(this.need);
  }
}

/**
 * Buffers that stand between a host and its device, used again and again: their bytes, in use or not, stay within a
 * limit. Jobs wait until there is room for all that they need; one that needs more than the limit has it to itself.
 */
export class Staging {
  readonly #free = new Map<string, GpuBuffer[]>();
  readonly #waiting = new Set<Waiting>();
  #reserved = 0;
  #allocated = 0;
  #peak = 0;

  constructor(
    private readonly device: GpuDevice,
    readonly limit: number,
  ) {}

  /** The most bytes that its buffers have had. */
  get peak(): number {
    return this.#peak;
  }

  /** Bytes that jobs have reserved. */
  get reserved(): number {
    return this.#reserved;
  }

  /**
   * Room for a job, when it is its turn.
   * @throws TensorwireError `ABORTED`, at once, where the signal aborts before that.
   */
  async lend(need: StagingNeed, signal: AbortSignal | undefined): Promise<StagingLoan> {
    const bytes = bytesOf(need);
    if (signal?.aborted) throw abortedError(signal);
    if (this.#waiting.size > 0 || !this.#fits(bytes)) {
      await new Promise<void>((resolve, reject) => {
        const job: Waiting = {
          bytes,
          begin: () => {
            forget?.();
            resolve();
          },
        };
        const forget =
          signal &&
          onAbort(signal, () => {
            this.#waiting.delete(job);
            forget?.();
            reject(abortedError(signal));
            this.#next();
          });
        this.#waiting.add(job);
      });
    } else {
      this.#reserved += bytes;
    }
    return new StagingLoan(this, need);
  }

  /** For loans. */
  take(kind: StagingKind, bytes: number): GpuBuffer {
    const size = roomFor(bytes);
    const free = this.#free.get(`${kind} ${size}`)?.pop();
    if (free !== undefined) return free;
    this.#makeRoom(size);
    this.#allocated += size;
    this.#peak = Math.max(this.#peak, this.#allocated);
    return this.device.createBuffer({ label: `tensorwire ${kind}`, size, usage: KINDS[kind] });
  }

  /** For loans. */
  give(kind: StagingKind, buffer: GpuBuffer, reuse: boolean): void {
    if (!reuse) {
      this.#destroy(buffer);
      return;
    }
    // What a job has mapped is nobody's from now on.
    if (kind === "readback") buffer.unmap();
    const key = `${kind} ${buffer.size}`;
    const free = this.#free.get(key);
    // The key that was used last comes last, and is the last to be let go.
    this.#free.delete(key);
    this.#free.set(key, [...(free ?? []), buffer]);
  }

  /** For loans. */
  end(need: StagingNeed): void {
    this.#reserved -= bytesOf(need);
    this.#next();
  }

  /** Destroys what no job has. */
  close(): void {
    for (const buffers of this.#free.values()) for (const buffer of buffers) this.#destroy(buffer);
    this.#free.clear();
  }

  #fits(bytes: number): boolean {
    return this.#reserved === 0 || this.#reserved + bytes <= this.limit;
  }

  #next(): void {
    for (const job of this.#waiting) {
      if (!this.#fits(job.bytes)) return;
      this.#waiting.delete(job);
      this.#reserved += job.bytes;
      job.begin();
    }
  }

  #makeRoom(bytes: number): void {
    for (const [key, buffers] of this.#free) {
      while (this.#allocated + bytes > this.limit && buffers.length > 0) this.#destroy(buffers.pop()!);
      if (buffers.length === 0) this.#free.delete(key);
      if (this.#allocated + bytes <= this.limit) return;
    }
  }

  #destroy(buffer: GpuBuffer): void {
    this.#allocated -= buffer.size;
    buffer.destroy();
  }
}

function bytesOf(need: StagingNeed): number {
  return Object.values(need).reduce<number>(
    (sum, bytes) => sum + (bytes === undefined ? 0 : roomFor(bytes)),
    0,
  );
}

function abortedError(signal: AbortSignal): TensorwireError {
  return new TensorwireError("ABORTED", "the job was cancelled before it began", { cause: signal.reason });
}
