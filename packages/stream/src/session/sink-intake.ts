import type { Answer, Chunk } from "@tensorwire/core";
import { isEncodedSink, type Place, type Sink } from "../sink/sink.js";
import type { DecodedChunk } from "./chunk-decoder.js";
import { type Deferred, deferred } from "./deferred.js";
import type { TransferLife } from "./transfer.js";

// Of chunks that are written at once, however small.
const MAX_CHUNKS = 1024;

/**
 * The sink as all attempts at a transfer share it: what it has in its hands goes on while the peer is away. A sink that
 * fails ends the transfer.
 */
export class SinkIntake {
  readonly #parallel: boolean;
  /** Places that the sink has given for chunks that it does not have yet: it is asked once for each. */
  readonly #places = new Map<number, Answer<Place | undefined>>();
  #chunks = 0;
  /** Decoded. */
  #bytes = 0;
  #sourceBytes = 0;
  #change: Deferred<void> | undefined;

  /** @param maxBytes Decoded bytes that may be in its hands. */
  constructor(
    readonly sink: Sink,
    private readonly maxBytes: number,
    private readonly life: TransferLife,
  ) {
    this.#parallel = !isEncodedSink(sink) && sink.parallel;
  }

  /** Nothing is in the sink's hands. */
  get empty(): boolean {
    return this.#chunks === 0;
  }

  /** Source bytes in the sink's hands. */
  get sourceBytes(): number {
    return this.#sourceBytes;
  }

  /** The memory that the chunk is to be decoded into, where the sink has it. */
  place(chunk: Chunk, bytes: number): Answer<Place | undefined> {
    const { sink } = this;
    if (isEncodedSink(sink) || !sink.place) return undefined;
    if (this.#places.has(chunk.ordinal)) return this.#places.get(chunk.ordinal);
    try {
      const place = sink.place(chunk, bytes);
      if (place instanceof Promise) place.catch((error) => this.life.fail(error));
      this.#places.set(chunk.ordinal, place);
      return place;
    } catch (error) {
      this.life.fail(error);
      throw error;
    }
  }

  /** Whether the sink takes so much more now: in turn, or, where it takes several at once, as many as fit. */
  takes(bytes: number): boolean {
    if (this.#chunks === 0) return true;
    return this.#parallel && this.#chunks < MAX_CHUNKS && this.#bytes + bytes <= this.maxBytes;
  }

  /** Resolves when the sink has finished with something. */
  get changed(): Promise<void> {
    this.#change ??= deferred<void>();
    return this.#change.promise;
  }

  /** Hands a chunk to the sink, which has finished with it at once, or when its promise resolves. */
  give({ chunk, record, bytes, loan, sha256 }: DecodedChunk, finished: () => void): void {
    const { sink, life } = this;
    let written: Promise<void> | undefined;
    // Only what the sink itself gave as a place is anything else.
    const given = bytes as Uint8Array;
    this.#places.delete(chunk.ordinal);
    try {
      written = isEncodedSink(sink)
        ? sink.writeEncoded(chunk, record, given, sha256)
        : sink.write(chunk, given);
    } catch (error) {
      loan?.release();
      life.fail(error);
      throw error;
    }
    if (!written) {
      loan?.release();
      finished();
      return;
    }
    this.#count(1, bytes.byteLength, chunk.bytes);
    const over = (): void => {
      loan?.release();
      this.#count(-1, -bytes.byteLength, -chunk.bytes);
    };
    const done = written.then(
      () => {
        over();
        finished();
      },
      (error) => {
        over();
        throw error;
      },
    );
    void done.catch((error) => life.fail(error)).then(() => this.#wake());
  }

  #count(chunks: number, bytes: number, sourceBytes: number): void {
    this.#chunks += chunks;
    this.#bytes += bytes;
    this.#sourceBytes += sourceBytes;
  }

  #wake(): void {
    const change = this.#change;
    this.#change = undefined;
    change?.resolve();
  }

  /** Resolves when nothing is in the sink's hands any more. */
  async drain(): Promise<void> {
    while (!this.empty) await this.changed;
  }
}
