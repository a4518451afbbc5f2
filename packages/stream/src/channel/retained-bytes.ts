const FIRST_BYTES = 64 * 1024;

/** A call of `write` whose parts do not all fit yet. */
interface WaitingWrite {
  readonly parts: readonly Uint8Array[];
  /** Which part is next, and how far into it. */
  part: number;
  at: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Bytes of one direction, kept until the other end has said that it took them: a request that fails is made again from
 * these. They are copied in, so that whoever writes may use its buffers again, and read in place; the room for them grows
 * with need, up to a bound, and writes wait for room.
 */
export class RetainedBytes {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #tail = 0;
  #head = 0;
  readonly #waiting: WaitingWrite[] = [];
  #finishing = false;

  /**
   * @param bound Bytes to keep at most, for now: it may change.
   * @param onChange Called when there is more to read, or the end is known.
   */
  constructor(
    private readonly bound: () => number,
    private readonly onChange: () => void,
  ) {}

  /** Place of the first byte that is kept. */
  get tail(): number {
    return this.#tail;
  }

  /** Place behind the last byte so far. */
  get head(): number {
    return this.#head;
  }

  /** Whether `head` is the end of all. */
  get finished(): boolean {
    return this.#finishing && this.#waiting.length === 0;
  }

  /** Whether somebody waits for room. */
  get full(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes the parts after those of earlier calls; resolves when they are copied. */
  write(parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ parts, part: 0, at: 0, resolve, reject });
      if (this.#waiting.length === 1) this.fill();
    });
  }

  /** The bytes from a place on, at most so many, where they lie: none, one piece, or two. */
  read(from: number, most: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    const end = Math.min(this.#head, from + most);
    for (let at = from; at < end; ) {
      const start = at % this.#buffer.length;
      const piece = this.#buffer.subarray(start, Math.min(this.#buffer.length, start + end - at));
      pieces.push(piece);
      at += piece.length;
    }
    return pieces;
  }

  /** The other end has all before this place. */
  release(place: number): void {
    if (place <= this.#tail) return;
    this.#tail = place;
    this.fill();
  }

  /** Takes no more; what waits is still taken. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    if (this.finished) this.onChange();
  }

  /** Takes no more, not even what waits. */
  refuse(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.finish();
  }

  /** Takes what there is room for: the bound may have grown. */
  fill(): void {
    const before = this.#head;
    for (let write = this.#waiting[0]; write; write = this.#waiting[0]) {
      if (!this.#take(write)) break;
      this.#waiting.shift();
      write.resolve();
    }
    if (this.#head > before || this.finished) this.onChange();
  }

  /** Copies what there is room for. Whether that is all. */
  #take(write: WaitingWrite): boolean {
    while (write.part < write.parts.length) {
      const part = write.parts[write.part]!;
      while (write.at < part.length) {
        const copied = this.#copy(part, write.at);
        if (copied === 0) return false;
        write.at += copied;
      }
      write.part++;
      write.at = 0;
    }
    return true;
  }

  #copy(part: Uint8Array, from: number): number {
    const kept = this.#head - this.#tail;
    const bytes = Math.min(part.length - from, this.bound() - kept);
    if (bytes <= 0) return 0;
    this.#grow(kept + bytes);
    const start = this.#head % this.#buffer.length;
    const run = Math.min(bytes, this.#buffer.length - start);
    this.#buffer.set(part.subarray(from, from + run), start);
    this.#head += run;
    return run;
  }

  #grow(needed: number): void {
    let length = this.#buffer.length;
    if (needed <= length) return;
    while (length < needed) length *= 2;
    const grown = Buffer.allocUnsafeSlow(length);
    let at = this.#tail;
    // Who still reads the old ones has them: nobody writes there any more.
    for (const piece of this.read(this.#tail, this.#head - this.#tail)) {
      for (let from = 0; from < piece.length; ) {
        const start = at % length;
        const run = piece.subarray(from, from + length - start);
        grown.set(run, start);
        from += run.length;
        at += run.length;
      }
    }
    this.#buffer = grown;
  }
}
