import { type Chunk, type ChunkRecord, TensorwireError } from "@tensorwire/core";
import { type Deferred, deferred } from "../session/deferred.js";
import type { EncodedSink, Part, SinkModel } from "../sink/sink.js";

/** A chunk that has come, lent until it is given back. */
export interface PulledChunk {
  readonly chunk: Chunk;
  readonly record: ChunkRecord;
  readonly payload: Uint8Array;
  readonly sha256: Uint8Array | undefined;
  readonly release: () => void;
}

/**
 * Where one connection's part of a model is handed over, chunk by chunk, still encoded: what nobody has taken yet stays in the
 * window of that connection, and is the next that somebody will ask it for.
 */
export class PartSink implements EncodedSink {
  readonly name = "part of a model";
  part: Part | undefined;
  /** Something has been announced. */
  known = false;
  readonly #announced = deferred<SinkModel>();
  readonly #asked = deferred<Part>();
  #here: PulledChunk | undefined;
  #taker: Deferred<PulledChunk> | undefined;
  /** Chunks that were taken, or wait to be: each ends with its release. */
  readonly #lent = new Set<() => void>();
  #failure: TensorwireError | undefined;

  /** What the peer announces. */
  get announced(): Promise<SinkModel> {
    return this.#announced.promise;
  }

  /** What it is to bring. */
  ask(part: Part): void {
    this.#asked.resolve(part);
  }

  async open(model: SinkModel): Promise<void> {
    this.known = true;
    this.#announced.resolve(model);
    this.part = await this.#asked.promise;
  }

  writeEncoded(
    chunk: Chunk,
    record: ChunkRecord,
    payload: Uint8Array,
    sha256?: Uint8Array | undefined,
  ): Promise<void> {
    return new Promise((resolve) => {
      const release = (): void => {
        this.#lent.delete(release);
        resolve();
      };
      this.#lent.add(release);
      const here = { chunk, record, payload, sha256, release };
      const taker = this.#taker;
      this.#taker = undefined;
      if (taker) taker.resolve(here);
      else this.#here = here;
    });
  }

  /** The next chunk, in the order of the part. One call at a time. */
  take(): Promise<PulledChunk> {
    if (this.#failure) return Promise.reject(this.#failure);
    const here = this.#here;
    this.#here = undefined;
    if (here) return Promise.resolve(here);
    this.#taker ??= deferred<PulledChunk>();
    return this.#taker.promise;
  }

  async finish(): Promise<void> {
    this.#end(new TensorwireError("INTERNAL", "a chunk is asked for that is no part of what was pulled"));
  }

  async abort(error: TensorwireError): Promise<void> {
    this.#end(error);
    this.#announced.reject(error);
    this.#asked.reject(error);
    // What nobody has taken goes back at once; what somebody has, when that one is done with it.
    this.#here?.release();
    this.#here = undefined;
  }

  #end(error: TensorwireError): void {
    this.#failure ??= error;
    this.#taker?.reject(this.#failure);
    this.#taker = undefined;
  }
}
