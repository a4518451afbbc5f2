import type { Answer, Chunk, Loan } from "@tensorwire/core";
import { isEncodedSink, type Place } from "../sink/sink.js";
import type { ArrivedChunk, ChunkDecoder, DecodedChunk } from "./chunk-decoder.js";
import { Lane } from "./lane.js";
import type { SinkIntake } from "./sink-intake.js";
import type { TransferLife } from "./transfer.js";

export interface PumpSettings {
  /** Decoded bytes that may wait for the sink. */
  readonly maxBytes: number;
  /** Whether the chunk is to be passed over, since the sink has it. The loan stays the pump's. */
  known(chunk: ArrivedChunk): Answer<boolean>;
  /** A chunk is passed over. */
  skipped(chunk: Chunk): void;
  /** A chunk is verified, in order, and goes to the sink: what is to be done when the sink has finished with it. */
  verified(chunk: DecodedChunk): () => void;
}

/**
 * Moves chunks of one connection from the channel to the sink: several are verified and decoded at once, and handed over in
 * order.
 */
export class SinkPump {
  readonly #decoded: Lane<DecodedChunk>;
  /** What is out of the lane, and waits until the sink takes more. */
  #taken: DecodedChunk | undefined;

  constructor(
    private readonly intake: SinkIntake,
    private readonly decoder: ChunkDecoder,
    private readonly life: TransferLife,
    private readonly settings: PumpSettings,
  ) {
    this.#decoded = new Lane(settings.maxBytes);
  }

  /**
   * Resolves when `arrivals` has ended and the sink has finished with everything. After a failure no buffer is held here;
   * what is in the sink's hands is the intake's.
   */
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
    const { decoder, intake, settings } = this;
    const encoded = isEncodedSink(intake.sink);
    for (;;) {
      const arrived = arrivals.take() ?? (await arrivals.next());
      if (!arrived) break;
      const known = this.#known(arrived);
      if (known instanceof Promise ? await this.#waiting(arrived.loan, known) : known) {
        arrived.loan.release();
        settings.skipped(arrived.chunk);
        continue;
      }
      const bytes = decoder.outputBytes(arrived.chunk);
      if (!this.#decoded.fits(bytes)) await this.#waiting(arrived.loan, this.#decoded.room(bytes));
      if (encoded) {
        this.#forward(bytes, decoder.verify(arrived));
        continue;
      }
      // Waited for here, in order: the next chunk's place may be the memory that the last one is still read from.
      const placing = this.#place(arrived, bytes);
      const place = placing instanceof Promise ? await this.#waiting(arrived.loan, placing) : placing;
      this.#forward(bytes, decoder.decode(arrived, place));
    }
    this.#decoded.close();
  }

  #known(arrived: ArrivedChunk): Answer<boolean> {
    return this.#lent(arrived.loan, () => this.settings.known(arrived));
  }

  #place({ chunk, loan }: ArrivedChunk, bytes: number): Answer<Place | undefined> {
    return this.#lent(loan, () => {
      const placing = this.intake.place(chunk, bytes);
      return placing instanceof Promise ? this.life.race(placing) : placing;
    });
  }

  #lent<T>(loan: Loan, work: () => Answer<T>): Answer<T> {
    try {
      return work();
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
    const first = this.#decoded.empty && !this.#taken && this.intake.takes(bytes);
    if (first && !(decoded instanceof Promise)) this.#give(decoded);
    else this.#decoded.put(bytes, decoded);
  }

  async #write(): Promise<void> {
    const { intake, life } = this;
    try {
      for (;;) {
        const next = this.#decoded.take() ?? (await this.#decoded.next());
        if (!next) break;
        this.#taken = next;
        while (!intake.takes(next.bytes.byteLength)) await life.race(intake.changed);
        this.#taken = undefined;
        this.#give(next);
      }
      while (!intake.empty) await life.race(intake.changed);
    } finally {
      this.#taken?.loan?.release();
    }
  }

  /** What has failed meanwhile goes no further: the sink may be closing. */
  #give(decoded: DecodedChunk): void {
    if (this.life.error) {
      decoded.loan?.release();
      throw this.life.error;
    }
    this.intake.give(decoded, this.settings.verified(decoded));
  }
}
