import { BATCH_BYTES, BATCH_RECORDS, type ChunkRange } from "@tensorwire/core";
import type { ChunkEncoder } from "./chunk-encoder.js";
import type { CreditGate } from "./credit.js";
import { Lane } from "./lane.js";
import type { OutgoingChunk } from "./outgoing-chunk.js";
import type { SenderSettings } from "./sender.js";

type Settings = Pick<SenderSettings, "plan" | "windowBytes" | "feedback" | "life">;

/** Moves chunks from a source to the channel: as credit allows, several are encoded at once, and small ones share a frame. */
export class SourcePump {
  readonly #lane: Lane<OutgoingChunk>;

  /** @param send Sends chunks in one frame. Their loans are given back when it resolves, or rejects. */
  constructor(
    private readonly settings: Settings,
    private readonly encoder: ChunkEncoder,
    private readonly gate: CreditGate,
    private readonly send: (chunks: readonly OutgoingChunk[]) => Promise<void>,
  ) {
    const { plan, windowBytes } = settings;
    // Chunks that are read, encoded or on their way out, decoded size: the sender's own share of the window. Small ones
    // by the frame that they share: four of them alone would be a frame, and a system call, for each four.
    this.#lane = new Lane(Math.min(windowBytes / 2, Math.max(plan.maxChunkBytes, BATCH_BYTES) * 4));
  }

  /** Resolves when all chunks of `ranges` are sent; the others are made where they leave residuals. */
  async run(ranges: readonly ChunkRange[]): Promise<void> {
    const { life } = this.settings;
    life.failed.catch((error) => this.#lane.fail(error));
    // Each loop stops the other: a failed read ends the writing, a failed write ends the reading.
    const failing = (error: unknown): never => {
      life.fail(error);
      throw error;
    };
    const loops = [this.#produce(ranges).catch(failing), this.#write().catch(failing)];
    const results = await Promise.allSettled(loops);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** After a failure: waits for the chunks that are still being made, and gives their buffers back. */
  drain(): Promise<void> {
    return this.#lane.drain(({ loan }) => loan.release());
  }

  async #produce(ranges: readonly ChunkRange[]): Promise<void> {
    const { plan } = this.settings;
    let next = 0;
    for (const range of ranges) {
      await this.#remake({ first: next, count: range.first - next });
      for (const chunk of plan.walk([range])) {
        // Waits only where it must: a turn of the event loop for each small tensor would cost more than the tensor.
        if (!this.#lane.fits(chunk.bytes)) await this.#lane.room(chunk.bytes);
        if (!this.gate.tryTake(chunk.bytes)) await this.gate.take(chunk.bytes);
        const reading = this.encoder.read(chunk);
        const read = reading instanceof Promise ? await reading : reading;
        this.#lane.put(chunk.bytes, this.encoder.encode(chunk, read));
      }
      next = range.first + range.count;
    }
    await this.#remake({ first: next, count: plan.chunks - next });
    this.#lane.close();
  }

  /** Chunks that the peer has, and that leave residuals all the same. */
  async #remake(range: ChunkRange): Promise<void> {
    const { plan, feedback, life } = this.settings;
    if (!feedback) return;
    for (const chunk of plan.walk([range])) {
      if (life.error) throw life.error;
      await this.encoder.remake(chunk);
    }
  }

  async #write(): Promise<void> {
    let batch: OutgoingChunk[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      const chunks = batch;
      batch = [];
      bytes = 0;
      await this.#flush(chunks);
    };
    try {
      for (;;) {
        if (batch.length && this.#lane.empty) await flush();
        const chunk = this.#lane.take() ?? (await this.#lane.next());
        if (!chunk) break;
        batch.push(chunk);
        bytes += chunk.bytes.length;
        if (bytes >= BATCH_BYTES || batch.length >= BATCH_RECORDS) await flush();
      }
      if (batch.length) await flush();
    } catch (error) {
      for (const chunk of batch) chunk.loan.release();
      throw error;
    }
  }

  async #flush(chunks: readonly OutgoingChunk[]): Promise<void> {
    try {
      await this.send(chunks);
    } finally {
      for (const { loan } of chunks) loan.release();
    }
  }
}
