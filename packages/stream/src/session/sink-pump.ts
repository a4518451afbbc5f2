import type { Answer, Chunk, Loan } from "@tensorwire/core";
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
  readonly #parallel: boolean;
  /** What is out of the lane, and waits until the sink takes more. */
  #taken: DecodedChunk | undefined;

  constructor(
    private readonly sink: Sink,
    private readonly decoder: ChunkDecoder,
    private readonly life: TransferLife,
    private readonly settings: PumpSettings,
  ) {
    this.#decoded = new Lane(settings.maxBytes);
    this.#writing = new Lane(settings.maxBytes);
    this.#parallel = !isEncodedSink(sink) && sink.parallel;
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
    await this.#decoded.drain(({ loan }) => loan?.release());
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  async #decode(arrivals: Lane<ArrivedChunk>): Promise<void> {
    const { decoder, sink } = this;
    for (;;) {
      const arrived = arrivals.take() ?? (await arrivals.next());
      if (!arrived) break;
      const bytes = decoder.outputBytes(arrived.chunk);
      if (!this.#decoded.fits(bytes)) await this.#waiting(arrived.loan, this.#decoded.room(bytes));
      if (isEncodedSink(sink)) {
        this.#forward(bytes, decoder.verify(arrived));
        continue;
      }
      // Waited for here, in order: the next chunk's place may be the memory that the last one is still read from.
      const placing = this.#place(sink, arrived, bytes);
      const place = placing instanceof Promise ? await this.#waiting(arrived.loan, placing) : placing;
      this.#forward(bytes, decoder.decode(arrived, place));
    }
    this.#decoded.close();
  }

  #place(sink: ModelSink, { chunk, loan }: ArrivedChunk, bytes: number): Answer<Uint8Array | undefined> {
    try {
      const placing = sink.place?.(chunk, bytes);
      return placing instanceof Promise ? this.life.race(placing) : placing;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async #waiting<T>(loan: Loan, wait: Promise<T>): Promise<T> {
    try {
      return await wait;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  /** To the sink at once, where nothing is before it; else in its turn. */
  #forward(bytes: number, decoded: Answer<DecodedChunk>): void {
    const first = this.#decoded.empty && !this.#taken && this.#mayWrite(bytes);
    if (first && !(decoded instanceof Promise)) this.#give(decoded);
    else this.#decoded.put(bytes, decoded);
  }

  async #write(): Promise<void> {
    try {
      for (;;) {
        const next = this.#decoded.take() ?? (await this.#decoded.next());
        if (!next) break;
        this.#taken = next;
        while (!this.#mayWrite(next.bytes.length)) await this.#writing.next();
        this.#taken = undefined;
        this.#give(next);
      }
      while (!this.#writing.empty) await this.#writing.next();
    } finally {
      this.#taken?.loan?.release();
      await this.#writing.drain(() => {});
    }
  }

  /** In turn, or, where the sink takes several at once, as many as fit. */
  #mayWrite(bytes: number): boolean {
    return this.#writing.empty || (this.#parallel && this.#writing.fits(bytes));
  }

  /** Hands a chunk to the sink, which has finished with it at once, or when its promise resolves. */
  #give(decoded: DecodedChunk): void {
    const { sink, life, settings } = this;
    const { chunk, record, bytes } = decoded;
    let written: Promise<void> | undefined;
    try {
      settings.verified(decoded);
      written = isEncodedSink(sink) ? sink.writeEncoded(chunk, record, bytes) : sink.write(chunk, bytes);
    } catch (error) {
      decoded.loan?.release();
      throw error;
    }
    if (!written) {
      decoded.loan?.release();
      settings.finished(chunk);
      return;
    }
    const finished = written.finally(() => decoded.loan?.release()).then(() => settings.finished(chunk));
    finished.catch((error) => life.fail(error));
    this.#writing.put(bytes.length, finished);
  }
}
