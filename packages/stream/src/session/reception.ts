import { type Chunk, type Manifest, TensorwireError, type Totals } from "@tensorwire/core";
import type { TransferTrace } from "../diagnostics/transfer-trace.js";
import { isEncodedSink, type Resumable, type Sink } from "../sink/sink.js";
import { Checkpoints } from "./checkpoints.js";
import type { ArrivedChunk, DecodedChunk } from "./chunk-decoder.js";
import { inChunk } from "./chunk-fault.js";
import { sameDigest } from "./held-chunks.js";
import {
  type Announcement,
  type IncomingModel,
  type IncomingSettings,
  incomingModel,
} from "./incoming-model.js";
import { closeSink, type OpenSink } from "./open-sink.js";
import type { Progress } from "./progress.js";
import { SinkIntake } from "./sink-intake.js";
import type { TransferLife } from "./transfer.js";

export interface ReceptionSettings extends IncomingSettings {
  /** Makes the sink for a model that has been announced and validated. */
  readonly sink: (manifest: Manifest) => Sink | Promise<Sink>;
  /** It can be asked for another sink, where what comes does not go on with what the first one has. */
  readonly renewable: boolean;
  readonly progress: Progress;
  /** Of all attempts. */
  readonly life: TransferLife;
  readonly trace: TransferTrace;
}

/** The connection that brings chunks at the moment. */
export interface Arrivals {
  /** The sink is done with a chunk. @param carried It came on an earlier connection. */
  finished(chunk: Chunk, carried: boolean): void;
  /** So many bytes more are durable, of which `ours` came on this connection. */
  secured(bytes: number, ours: number): void;
}

/**
 * What a receiver has of a model, over all attempts at it: the sink, what it holds, and what is in its hands. A connection
 * that breaks leaves it as it is.
 */
export class Reception {
  #model: IncomingModel | undefined;
  #open: OpenSink | undefined;
  #arrivals: Arrivals | undefined;
  #making: Promise<void> = Promise.resolve();
  #finishing: Promise<void> | undefined;
  #aborting: Promise<void> | undefined;
  /** Loans of models that were given up and are not back. */
  #lost = 0;

  constructor(private readonly settings: ReceptionSettings) {
    settings.life.failed.catch((error) => this.abort(error));
  }

  /**
   * What is announced, as it goes on with what there is, or begins.
   * @throws TensorwireError as `incomingModel`, and `SOURCE_CHANGED` where it is another model and the sink is no path.
   */
  announce(announcement: Announcement): IncomingModel {
    const { life, progress, renewable, trace } = this.settings;
    const known = this.#model;
    if (known && Buffer.compare(known.bytes, announcement.bytes) === 0) {
      if (!this.#staysBehind(announcement.version)) return known;
    } else if (known && !renewable) {
      const message =
        "the peer came back with another model than the one that is half received here: begin anew";
      throw new TensorwireError("SOURCE_CHANGED", message);
    }
    const model = incomingModel(announcement, this.settings, life.jobs);
    this.#model = model;
    trace.manifest = model.manifest;
    progress.totalBytes = model.plan.bytes;
    progress.totalTensors = model.manifest.tensors.length;
    return model;
  }

  /** What the sink's journal says of the version holds no more: it is to be opened again, and told the new one. */
  #staysBehind(version: string | undefined): boolean {
    const open = this.#open;
    if (!open?.sink.resumable || !this.settings.renewable) return false;
    return open.model.version !== undefined && open.model.version !== version;
  }

  /** Opens the sink, unless it is open. */
  open(model: IncomingModel): Promise<void> {
    this.#making = this.#making.catch(() => {}).then(() => this.#make(model));
    return this.#making;
  }

  async #make(model: IncomingModel): Promise<void> {
    const { life } = this.settings;
    if (this.#open?.model !== model) {
      await this.#leave(model);
      if (life.error) throw life.error;
      const sink = await this.settings.sink(model.manifest);
      this.#open = this.#begin(sink, model);
    }
    await this.#open!.opening;
  }

  #begin(sink: Sink, model: IncomingModel): OpenSink {
    const { life, windowBytes } = this.settings;
    const opening = sink.open(model).catch((error) => {
      life.fail(error);
      throw error;
    });
    const intake = new SinkIntake(sink, windowBytes / 4, life);
    const open: OpenSink = { sink, model, intake, opening, checkpoints: undefined, version: model.version };
    const opened = opening.then(() => this.#take(open));
    opened.catch(() => {});
    return Object.assign(open, { opening: opened });
  }

  /** What the sink has from an earlier call. */
  #take(open: OpenSink): void {
    const { life, windowBytes, progress } = this.settings;
    const { held } = open.model;
    const { resumable } = open.sink;
    if (resumable) {
      for (const run of resumable.held) held.addRun(run);
      if (held.bytes > 0 && !resumable.sameVersion) open.version = undefined;
      open.checkpoints = new Checkpoints(resumable, {
        everyBytes: windowBytes / 2,
        made: (bytes, ours) => this.#secured(bytes, ours),
        failed: (error) => life.fail(error),
      });
    }
    progress.begin(held.bytes, held.tensors);
  }

  #secured(bytes: number, ours: number): void {
    const { progress, trace } = this.settings;
    progress.durableBytes += bytes;
    trace.checkpoint(progress.durableBytes);
    this.#arrivals?.secured(bytes, ours);
  }

  /** The sink of a model, or of a version, that does not come any more. */
  async #leave(next: IncomingModel): Promise<void> {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    const same = Buffer.compare(open.model.bytes, next.bytes) === 0;
    // Of the same model what it holds is of use, and stays.
    const error = same
      ? new TensorwireError("CHANNEL_CLOSED", "the source is of another version now")
      : new TensorwireError("SOURCE_CHANGED", "the peer came back with another model");
    await closeSink(open, error);
    this.#lost += loansOf(open.model);
  }

  get #opened(): OpenSink {
    return this.#open!;
  }

  get intake(): SinkIntake {
    return this.#opened.intake;
  }

  get resumable(): Resumable | undefined {
    return this.#opened.sink.resumable;
  }

  /** The version of all that is held, where it has one. */
  get version(): string | undefined {
    return this.#open?.version;
  }

  /** Source bytes that are finished with and in no checkpoint. */
  get unsafe(): number {
    return this.#opened.checkpoints?.unsafe ?? 0;
  }

  /** A connection begins to bring chunks. @returns whether what is held is of the version that it named. */
  attach(arrivals: Arrivals, version: string | undefined): boolean {
    const open = this.#opened;
    const { held } = open.model;
    this.#arrivals = arrivals;
    open.checkpoints?.reconnect();
    // The process may die before END, and the next one knows what the sink was told.
    if (version !== open.model.version) open.sink.resumable?.mix();
    if (held.bytes === 0) open.version = version;
    const same = version !== undefined && open.version === version;
    // From here on chunks of both versions may be there, until END says that they are the same.
    if (!same) open.version = undefined;
    return same && held.bytes > 0;
  }

  /** What still comes of its chunks is of an earlier connection. */
  detach(arrivals: Arrivals): void {
    if (this.#arrivals === arrivals) this.#arrivals = undefined;
  }

  /** Whether a chunk that comes is held as it is. One that is held, and differs, is held no more when this resolves. */
  known(arrived: ArrivedChunk): boolean | Promise<boolean> {
    const { held, digest } = this.#opened.model;
    if (!held.has(arrived.chunk)) return false;
    // Of SHA-256 the record says nothing: the payload alone would tell.
    if (digest.integrity === "xxh64" && sameDigest(held.of(arrived.chunk), arrived.record)) return true;
    return this.#forget(arrived.chunk).then(() => false);
  }

  async #forget(chunk: Chunk): Promise<void> {
    const { sink, model, intake, checkpoints } = this.#opened;
    const { progress, life } = this.settings;
    // What is appended, or given away, is not taken back.
    if (!checkpoints || isEncodedSink(sink)) {
      const message = `the source has changed since this chunk came, and ${sink.name} cannot take it again: begin anew`;
      throw inChunk(new TensorwireError("SOURCE_CHANGED", message), model.manifest, chunk);
    }
    // The same chunk may be in the sink's hands, from before.
    await life.race(intake.drain());
    await life.race(checkpoints.forget(chunk));
    model.held.remove(chunk);
    progress.sourceBytes -= chunk.bytes;
    progress.acknowledgedBytes -= chunk.bytes;
    progress.durableBytes = Math.min(progress.durableBytes, progress.acknowledgedBytes);
    progress.resumedBytes = Math.max(0, progress.resumedBytes - chunk.bytes);
    if (this.#isLast(chunk)) progress.tensors--;
  }

  #isLast({ tensor, index }: Chunk): boolean {
    return index === this.#opened.model.plan.range(tensor).count - 1;
  }

  /** A verified chunk goes to the sink. @returns what is to be done when the sink has finished with it. */
  take({ chunk, record, sha256 }: DecodedChunk, from: Arrivals): () => void {
    const open = this.#opened;
    const { held, tally } = open.model;
    held.add(chunk, { ...record, sha256 });
    tally.add(record, chunk.bytes);
    this.settings.trace.chunk(chunk, record);
    return () => this.#finished(open, chunk, from);
  }

  #finished({ model, checkpoints }: OpenSink, chunk: Chunk, from: Arrivals): void {
    const { progress } = this.settings;
    const ours = from === this.#arrivals;
    checkpoints?.note(chunk, model.held.of(chunk), ours);
    progress.sourceBytes += chunk.bytes;
    progress.acknowledgedBytes += chunk.bytes;
    if (this.#isLast(chunk)) progress.tensors++;
    progress.tick();
    this.#arrivals?.finished(chunk, !ours);
  }

  /** Every chunk is with the sink: makes it durable and visible. What happens meanwhile does not undo it. */
  finish(totals: Totals): Promise<void> {
    this.#finishing = this.#finish(totals);
    return this.#finishing.catch((error) => {
      this.settings.life.fail(error);
      throw error;
    });
  }

  async #finish(totals: Totals): Promise<void> {
    const { sink, model, checkpoints } = this.#opened;
    const { plan } = model;
    await checkpoints?.stop();
    // What travelled on this connection is of no interest to the sink, which has all of it.
    await sink.finish({ ...totals, chunks: plan.chunks, sourceBytes: plan.bytes });
    this.settings.progress.durableBytes = plan.bytes;
  }

  /** There will be no other attempt: the sink keeps what a later call can go on from, or takes back what it wrote. */
  abort(error: TensorwireError): Promise<void> {
    this.#aborting ??= this.#abort(error);
    return this.#aborting;
  }

  async #abort(error: TensorwireError): Promise<void> {
    const finished = this.#finishing?.then(
      () => true,
      () => false,
    );
    if (await finished) return;
    await this.#making.catch(() => {});
    if (this.#open) await closeSink(this.#open, error);
  }

  /** Buffers that are not back. When it is over, either way, there are none. */
  get loans(): number {
    return this.#lost + (this.#model ? loansOf(this.#model) : 0);
  }
}

function loansOf({ pool, decoder }: IncomingModel): number {
  return pool.loans + decoder.loans;
}
