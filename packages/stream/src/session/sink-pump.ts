import type { Chunk, Loan } from "@tensorwire/core";
import { isEncodedSink, type ModelSink, type Sink } from "../sink/sink.js";
import type { ArrivedChunk, ChunkDecoder, DecodedChunk } from "./chunk-decoder.js";
import { Lane } from "./lane.js";
import type { TransferLife } from "./transfer.js";

export interface PumpSettings {
  /** Decoded bytes that may wait for the sink, and, apart from them, be in its hands. */
  readonly maxBytes: number;
  /** A chunk is verified, in order, and goes to the sink. */
  verified(chunk: DecodedChunk): void;
  /** The sink has finished with a chunk. */
  finished(chunk: Chunk): void;
}

/** Moves chunks from the channel into a sink: several are verified and decoded at once, and written in order. */
export class SinkPump {
  readonly #decoded: Lane<DecodedChunk>;
  readonly #writing: Lane<void>;

  constructor(
    private readonly sink: Sink,
    private readonly decoder: ChunkDecoder,
    private readonly life: TransferLife,
    private readonly settings: PumpSettings,
  ) {
    this.#decoded = new Lane(settings.maxBytes);
    this.#writing = new Lane(settings.maxBytes);
  }

  /** Resolves when `arrivals` has ended and the sink has taken everything. Then no buffer is held, nor after a failure. */
  async run(arrivals: Lane<ArrivedChunk>): Promise<void> {
    const { life } = this;
    life.failed.catch((error) => this.#decoded.fail(error));
    const failing = (error: unknown): never => {
      life.fail(error);
      throw error;
    };
    const loops = [this.#decode(arrivals).catch(failing), this.#write().catch(failing)];
    const results = await Promise.allSettled(loops);
    await this.#decoded.drain((chunk) => chunk.release());
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #decode(arrivals: Lane<ArrivedChunk>): Promise<void> {
    const { decoder, sink } = this;
    for (let arrived = await arrivals.next(); arrived; arrived = await arrivals.next()) {
      const bytes = decoder.outputBytes(arrived.chunk);
      await this.#waiting(arrived.loan, this.#decoded.room(bytes));
      if (isEncodedSink(sink)) {
        this.#decoded.put(bytes, decoder.verify(arrived));
        continue;
      }
      // Waited for here, in order: the next chunk's place may be the memory that the last one is still read from.
      const place = await this.#waiting(arrived.loan, this.#place(sink, arrived.chunk, bytes));
      this.#decoded.put(bytes, decoder.decode(arrived, place));
    }
    this.#decoded.close();
  }

  async #place(sink: ModelSink, chunk: Chunk, bytes: number): Promise<Uint8Array | undefined> {
    const placing = sink.place?.(chunk, bytes);
    return placing && this.life.race(placing);
  }

  async #waiting<T>(loan: Loan, wait: Promise<T>): Promise<T> {
    try {
      return await wait;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async #write(): Promise<void> {
    const { sink, life } = this;
    const parallel = !isEncodedSink(sink) && sink.parallel;
    try {
      for (let next = await this.#decoded.next(); next; next = await this.#decoded.next()) {
        const { bytes } = next;
        this.settings.verified(next);
        const written = this.#give(next);
        if (!written) continue;
        written.catch((error) => life.fail(error));
        this.#writing.put(bytes.length, written);
        // In turn, or as many at once as fit.
        while (!this.#writing.empty && !(parallel && this.#writing.fits(bytes.length)))
          await this.#writing.next();
      }
      while (!this.#writing.empty) await this.#writing.next();
    } finally {
      await this.#writing.drain(() => {});
    }
  }

  /** Hands a chunk to the sink; the promise, if there is one, resolves when the sink has finished with it. */
  #give(decoded: DecodedChunk): Promise<void> | undefined {
    const { sink } = this;
    const { chunk, record, bytes } = decoded;
    let written: Promise<void> | undefined;
    try {
      written = isEncodedSink(sink) ? sink.writeEncoded(chunk, record, bytes) : sink.write(chunk, bytes);
    } catch (error) {
      decoded.release();
      throw error;
    }
    if (written) {
      return written.finally(() => decoded.release()).then(() => this.settings.finished(chunk));
    }
    decoded.release();
    this.settings.finished(chunk);
    return undefined;
  }
}
