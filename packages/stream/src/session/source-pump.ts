import { BATCH_BYTES, BATCH_RECORDS, type Chunk, type ChunkRange } from "@tensorwire/core";
import type { LaneShare } from "../budget/lane-share.js";
import { laneBytes } from "../budget/sender-memory.js";
import { isEncodedSource } from "../source/source.js";
import { whenAnswered } from "./answer.js";
import type { ChunkEncoder } from "./chunk-encoder.js";
import type { CreditGate } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { Lane } from "./lane.js";
import type { OutgoingChunk } from "./outgoing-chunk.js";
import type { SenderSettings } from "./sender-settings.js";

type Settings = Pick<SenderSettings, "plan" | "source" | "compress" | "windowBytes" | "feedback" | "life">;

/** What becomes of the chunks that a peer does not want. */
export interface HeldPolicy {
  /** Whether the peer has a chunk: else it is no part of the transfer. */
  has(chunk: Chunk): boolean;
  /** They are made again, and `changed` is asked of each. Else they are passed over. */
  readonly compare: boolean;
  /** Whether a chunk is another one than the peer has, and so is sent. */
  changed(chunk: OutgoingChunk): boolean;
}

/** A chunk in the lane. */
interface QueuedChunk {
  readonly chunk: OutgoingChunk;
  /** It was made for comparison: whether it is sent, and on what credit, is yet to be seen. */
  readonly compared: boolean;
}

/** Moves chunks from a source to the channel: as credit allows, several are encoded at once, and small ones share a frame. */
export class SourcePump {
  readonly #lane: Lane<QueuedChunk>;
  /** Chunks in the lane that are yet to be compared. */
  #comparing = 0;
  #compared: Deferred<void> | undefined;

  /** @param send Sends chunks in one frame. Their loans are given back when it resolves, or rejects. */
  constructor(
    private readonly settings: Settings,
    private readonly encoder: ChunkEncoder,
    private readonly gates: { readonly credit: CreditGate; readonly memory: LaneShare },
    private readonly send: (chunks: readonly OutgoingChunk[]) => Promise<void>,
  ) {
    // Chunks that are read, encoded or on their way out, decoded size: the sender's own share of the window.
    const { plan, windowBytes, source, compress } = settings;
    this.#lane = new Lane(laneBytes(plan, windowBytes, isEncodedSource(source) && !compress));
  }

  /** Resolves when all chunks of `ranges` are sent, and those of the others that have changed. */
  async run(ranges: readonly ChunkRange[], held: HeldPolicy): Promise<void> {
    const { life } = this.settings;
    life.failed.catch((error) => this.#lane.fail(error));
    // Each loop stops the other: a failed read ends the writing, a failed write ends the reading.
    const failing = (error: unknown): never => {
      life.fail(error);
      throw error;
    };
    const loops = [this.#produce(ranges, held).catch(failing), this.#write(held).catch(failing)];
    const results = await Promise.allSettled(loops);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** After a failure: waits for the chunks that are still being made, and gives their buffers back. */
  drain(): Promise<void> {
    return this.#lane.drain(({ chunk }) => this.#release(chunk));
  }

  async #produce(ranges: readonly ChunkRange[], held: HeldPolicy): Promise<void> {
    const { plan } = this.settings;
    const { credit, memory } = this.gates;
    let next = 0;
    for (const range of ranges) {
      await this.#passOver({ first: next, count: range.first - next }, held);
      for (const chunk of plan.walk([range])) {
        // Waits only where it must: a turn of the event loop for each small tensor would cost more than the tensor.
        if (!this.#lane.fits(chunk.bytes)) await this.#lane.room(chunk.bytes);
        if (!credit.tryTake(chunk.bytes)) {
          memory.rest();
          await credit.take(chunk.bytes);
        }
        // After credit: a peer that grants none takes no memory.
        if (!memory.tryTake(chunk.bytes)) await memory.take(chunk.bytes);
        const making = this.#make(chunk, false);
        if (making) await making;
      }
      next = range.first + range.count;
    }
    await this.#passOver({ first: next, count: plan.chunks - next }, held);
    this.#lane.close();
  }

  /** Reads a chunk, and begins to encode it. */
  #make(chunk: Chunk, compared: boolean): Promise<void> | undefined {
    const put = (read: Awaited<ReturnType<ChunkEncoder["read"]>>): void => {
      const encoded = this.encoder.encode(chunk, read);
      this.#lane.put(
        chunk.bytes,
        whenAnswered(encoded, (made) => ({ chunk: made, compared })),
      );
    };
    const reading = this.encoder.read(chunk);
    if (reading instanceof Promise) return reading.then(put);
    put(reading);
    return undefined;
  }

  /** Chunks that the peer has: to be compared, or only to leave the residuals that they leave. */
  async #passOver(range: ChunkRange, { compare, has }: HeldPolicy): Promise<void> {
    const { plan, feedback, life } = this.settings;
    const { memory } = this.gates;
    if (!compare && !feedback) return;
    for (const chunk of plan.walk([range])) {
      if (life.error) throw life.error;
      if (!has(chunk)) continue;
      if (!compare) {
        if (!memory.tryTake(chunk.bytes)) await memory.take(chunk.bytes);
        await this.encoder.remake(chunk);
        memory.give(chunk.bytes);
        continue;
      }
      if (!this.#lane.fits(chunk.bytes)) await this.#lane.room(chunk.bytes);
      if (!memory.tryTake(chunk.bytes)) await memory.take(chunk.bytes);
      this.#comparing++;
      const making = this.#make(chunk, true);
      if (making) await making;
    }
    // Credit is taken in the order of sending: what comes next must not take what a changed chunk before it needs.
    while (this.#comparing > 0) {
      this.#compared ??= deferred<void>();
      await life.race(this.#compared.promise);
    }
  }

  async #write(held: HeldPolicy): Promise<void> {
    let batch: OutgoingChunk[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      const chunks = batch;
      batch = [];
      bytes = 0;
      if (chunks.length) await this.#flush(chunks);
    };
    try {
      for (;;) {
        if (batch.length && this.#lane.empty) await flush();
        const queued = this.#lane.take() ?? (await this.#lane.next());
        if (!queued) break;
        const { chunk, compared } = queued;
        if (compared && !(await this.#changed(chunk, held, flush))) continue;
        batch.push(chunk);
        bytes += chunk.bytes.length;
        if (bytes >= BATCH_BYTES || batch.length >= BATCH_RECORDS) await flush();
      }
      await flush();
    } catch (error) {
      for (const chunk of batch) this.#release(chunk);
      throw error;
    }
  }

  /** Whether a chunk that was made again is to be sent: then there is credit for it. Else its loan has gone back. */
  async #changed(chunk: OutgoingChunk, held: HeldPolicy, flush: () => Promise<void>): Promise<boolean> {
    try {
      const changed = held.changed(chunk);
      if (changed && !this.gates.credit.tryTake(chunk.chunk.bytes)) {
        // What waits here has its credit, and may have to go for more to come.
        await flush();
        await this.gates.credit.take(chunk.chunk.bytes);
      }
      if (!changed) this.#release(chunk);
      return changed;
    } catch (error) {
      this.#release(chunk);
      throw error;
    } finally {
      this.#comparing--;
      this.#compared?.resolve();
      this.#compared = undefined;
    }
  }

  async #flush(chunks: readonly OutgoingChunk[]): Promise<void> {
    try {
      await this.send(chunks);
    } finally {
      for (const chunk of chunks) this.#release(chunk);
    }
  }

  #release({ chunk, loan }: OutgoingChunk): void {
    loan.release();
    this.gates.memory.give(chunk.bytes);
  }
}
