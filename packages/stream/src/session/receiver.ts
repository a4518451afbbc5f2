import {
  type Chunk,
  type ChunkRecord,
  COUNT_BYTES,
  FLAG_TO_SENDER,
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  type Loan,
  type Manifest,
  parseTotals,
  RECORD_BYTES,
  type SourceState,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { processBudget } from "../budget/process-budget.js";
import { ReceiverMemory } from "../budget/receiver-memory.js";
import { laneBytes } from "../budget/sender-memory.js";
import { WindowShare } from "../budget/window-share.js";
import type { WaitingBytes } from "../diagnostics/events.js";
import type { ArrivedChunk } from "./chunk-decoder.js";
import type { Connection } from "./connection.js";
import { CreditLedger } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { checkTotals } from "./end-totals.js";
import { type Expectations, ExpectedChunks } from "./expected-chunks.js";
import type { Part } from "../sink/sink.js";
import type { IncomingModel } from "./incoming-model.js";
import { Lane } from "./lane.js";
import type { ReceiverSettings } from "./receiver-settings.js";
import { ReceiverVoice } from "./receiver-voice.js";
import type { Arrivals } from "./reception.js";
import { SinkPump } from "./sink-pump.js";
import { StallWatch, type WatchedEnd } from "./stall-watch.js";
import type { TransferSummary } from "./summary.js";
import type { ReceivingEnd } from "./transfer-end.js";

/**
 * The receiving end of one attempt at a transfer: validates, says what it has and lacks, grants credit, verifies, decodes in
 * order into the sink, confirms.
 */
export class ModelReceiver implements ReceivingEnd, Arrivals, WatchedEnd, WaitingBytes {
  readonly #announced = deferred<IncomingModel>();
  readonly #end = deferred<Totals>();
  readonly #arrivals = new Lane<ArrivedChunk>(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  readonly #ledger: CreditLedger;
  readonly #voice: ReceiverVoice;
  #begun: IncomingModel | undefined;
  #expected: ExpectedChunks | undefined;
  #version: string | undefined;
  #next: Chunk | undefined;
  #transfer = 0;
  /** Chunks that came on this connection, and their source bytes. */
  #chunks = 0;
  #sourceBytes = 0;
  #share: WindowShare | undefined;
  /** There is memory, and a sink, for what comes. */
  #ready = false;
  #ended = false;
  #brake: Deferred<void> | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly settings: ReceiverSettings,
  ) {
    this.#ledger = new CreditLedger(settings.windowBytes);
    this.#voice = new ReceiverVoice(connection, settings, this.#ledger);
  }

  get #oneWay(): boolean {
    return this.connection.channel.direction !== "both";
  }

  /** The manifest, once it is here and valid. */
  get manifest(): Promise<Manifest> {
    return this.#announced.promise.then(({ manifest }) => manifest);
  }

  async run(): Promise<TransferSummary> {
    const { life, owned, reception, stallTimeoutMs, trace } = this.settings;
    life.failed.catch((error) => this.#stop(error));
    trace.attempt(this.connection, this);
    const stall = new StallWatch(this, stallTimeoutMs, life);
    let work: Promise<unknown> = Promise.resolve();
    try {
      this.connection.receive(this);
      const begun = await life.race(this.#announced.promise);
      await life.race(reception.open(begun));
      const streaming = this.#stream(begun);
      work = streaming;
      await life.race(streaming);
      const totals = await life.race(this.#end.promise);
      checkTotals(totals, begun, { chunks: this.#chunks, sourceBytes: this.#sourceBytes }, this.settings);
      // From here on the model is whole: what happens to the channel, or the signal, no longer undoes it.
      await reception.finish(totals);
      return this.#summary(begun, totals, !this.#oneWay && (await this.#voice.confirm(totals)));
    } catch (error) {
      life.fail(error);
      const to = { transfer: this.#transfer, flags: FLAG_TO_SENDER, owned };
      await life.abandon(this.connection, to);
      await work.catch(() => {});
      throw life.error;
    } finally {
      stall.stop();
      trace.attempted();
      this.connection.release(this);
      reception.detach(this);
      await this.#arrivals.drain(({ loan }) => loan.release());
      this.#share?.close();
    }
  }

  async #stream(begun: IncomingModel): Promise<void> {
    const { life, reception, registry, budget = processBudget("receive") } = this.settings;
    const { sink } = reception.intake;
    const oneWay = this.#oneWay;
    const windowBytes = this.#windowBytes(begun, sink.part);
    const lane = (sink.part ? windowBytes : this.settings.windowBytes) / 4;
    const memory = new ReceiverMemory({
      ...{ model: begun, sink, pools: begun, registry, windowBytes, laneBytes: lane, oneWay },
    });
    const braked = oneWay ? () => this.#ready && this.#brake !== undefined : undefined;
    this.#share = new WindowShare(memory, this.#ledger, braked, () => this.#moved());
    const pump = new SinkPump(reception.intake, begun.decoder, life, {
      maxBytes: lane,
      known: (arrived) => reception.known(arrived),
      skipped: (chunk) => {
        this.#ledger.skip(chunk.bytes);
        this.#moved();
      },
      verified: (decoded) => reception.take(decoded, this),
    });
    await this.#share.open(budget, life.jobs);
    await this.#ask(begun);
    await pump.run(this.#arrivals);
  }

  /** Of the window: a sender in this process is no further away than its own lane, and there is nothing between to fill. */
  #windowBytes({ plan }: IncomingModel, part: Part | undefined): number {
    const { windowBytes, near } = this.settings;
    const most = near ? laneBytes(plan, windowBytes) : windowBytes;
    return Math.min(most, part?.windowBytes ?? most);
  }

  async #ask({ plan, held, version }: IncomingModel): Promise<void> {
    const { life, reception } = this.settings;
    const { intake } = reception;
    const part = intake.sink.part?.ranges;
    if (part && this.#oneWay) throw allOrNothing(this.connection.channel.kind);
    // Whoever takes the other parts has seen the model in the state that was announced first.
    if (part && this.#version !== version) throw otherState();
    const { maxChunkBytes } = plan;
    // What is still in the sink's hands takes its part of the window: no chunk is asked for that there is no room for.
    while (intake.sourceBytes + maxChunkBytes > this.#ledger.room) await life.race(intake.changed);
    this.settings.trace.resume(held.bytes);
    const sameVersion = reception.attach(this, this.#version);
    const journaled = reception.resumable !== undefined;
    const { unsafe } = reception;
    this.#ledger.begin({ chunkBytes: maxChunkBytes, carried: intake.sourceBytes, journaled, unsafe });
    this.#ready = true;
    this.#releaseBrake();
    if (this.#oneWay) return;
    const ranges = await this.#voice.tellHeld(held, plan.chunks, part);
    this.#expect({ ranges, changed: !sameVersion && !part });
    await this.#voice.ask({ ranges, sameVersion, part: part !== undefined });
  }

  #expect(expectations?: Expectations): void {
    const { manifest, plan } = this.#begun!;
    this.#expected = new ExpectedChunks(manifest, plan, this.settings.registry, expectations);
  }

  // --- Arrivals

  finished(chunk: Chunk, carried: boolean): void {
    const { bytes } = chunk;
    if (carried) this.#ledger.finishCarried(bytes);
    else this.#ledger.finish(bytes);
    this.#moved();
  }

  secured(bytes: number, ours: number): void {
    this.#ledger.secure(bytes, ours);
    this.#moved();
    if (ours > 0) this.#voice.durable();
  }

  /** There is room, or more of it: for the peer, or for others. */
  #moved(): void {
    if (this.#share?.settle() && this.#voice.asked && this.#ledger.due) this.#voice.grant();
    this.#releaseBrake();
  }

  #summary({ tally }: IncomingModel, { digest, sha256 }: Totals, confirmed: boolean): TransferSummary {
    const { progress, backend } = this.settings;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    return tally.summary({ progress, digest, sha256, confirmed, backend: backend.name });
  }

  #stop(error: unknown): void {
    this.#announced.reject(error);
    this.#arrivals.fail(error);
    this.#releaseBrake();
  }

  #releaseBrake(): void {
    this.#brake?.resolve();
    this.#brake = undefined;
  }

  // --- WaitingBytes

  /** What the peer has sent, and has not arrived, it alone knows. */
  get inFlightBytes(): number {
    return 0;
  }

  get queuedBytes(): number {
    return this.#ledger.held;
  }

  // --- WatchedEnd

  /** A write that does not leave, an announcement, or chunks that it may send: all that came is finished with. */
  get awaitsPeer(): boolean {
    if (this.#voice.writing || !this.#begun) return true;
    // Without a way back the peer waits where it is braked: there may be no memory yet, or no sink.
    const asked = this.#voice.asked || this.#oneWay;
    if (this.#ended || !asked || this.#voice.granting || this.#brake) return false;
    const { held, announced } = this.#ledger;
    if (held > (this.#next?.bytes ?? 0)) return false;
    return this.#oneWay || announced - this.#sourceBytes >= this.#begun.plan.maxChunkBytes;
  }

  get moves(): number {
    return this.#sourceBytes;
  }

  // --- ReceivingEnd

  /** Called with the manifest's bytes, while the connection parses: payloads may follow at once. */
  begin(transfer: number, bytes: Uint8Array, { version }: SourceState): void {
    this.#transfer = transfer;
    this.#version = version;
    const { life, progress, reception } = this.settings;
    progress.wireBytes += HEADER_BYTES + bytes.length;
    try {
      const begun = reception.announce({ bytes, version });
      this.#begun = begun;
      this.#voice.begin(transfer, begun.digest.integrity);
      // Nobody can ask for anything: everything comes.
      if (this.#oneWay) this.#expect();
      this.#announced.resolve(begun);
    } catch (error) {
      life.fail(error);
    }
  }

  admit({ type }: FrameHeader): void {
    const { life, progress } = this.settings;
    if (life.error || type === FrameType.ERROR || type === FrameType.CANCEL) return;
    if (type === FrameType.INDEX && this.#oneWay && this.#ended) return;
    const streaming = (this.#voice.asked || this.#oneWay) && !this.#ended;
    if (!streaming || (type !== FrameType.DATA && type !== FrameType.END)) {
      throw new TensorwireError("PROTOCOL", `${frameName(type)} out of its order`);
    }
    if (type === FrameType.DATA) progress.wireBytes += HEADER_BYTES + COUNT_BYTES;
  }

  control({ type }: FrameHeader, body: Uint8Array): void {
    if (this.settings.life.error || type !== FrameType.END) return;
    const totals = parseTotals("END", body, this.#begun!.manifest.integrity);
    this.settings.progress.wireBytes += HEADER_BYTES + body.length;
    this.#ended = true;
    this.#voice.rest();
    this.#expected!.end();
    this.#end.resolve(totals);
    this.#arrivals.close();
  }

  lend(record: ChunkRecord): Loan | undefined {
    const begun = this.#begun;
    // After a failure here, chunks that were under way are read past.
    if (!begun || this.settings.life.error) return undefined;
    const chunk = this.#expected!.take(record);
    this.#chunks++;
    this.#sourceBytes += chunk.bytes;
    this.#ledger.arrive(chunk.bytes, !this.#oneWay);
    this.#share?.used();
    this.#next = chunk;
    this.settings.progress.wireBytes += RECORD_BYTES + record.packedBytes;
    return begun.pool.lend(record.packedBytes);
  }

  payload(record: ChunkRecord, loan: Loan): void {
    const chunk = this.#next;
    this.#next = undefined;
    if (!chunk || this.settings.life.error) return loan.release();
    this.#arrivals.put(chunk.bytes, { chunk, record, loan });
  }

  brake(): Promise<void> | undefined {
    const { life } = this.settings;
    const { plan } = this.#begun ?? {};
    if (!this.#oneWay || !plan || life.error) return undefined;
    const { held, room } = this.#ledger;
    if (this.#ready && held + plan.maxChunkBytes <= room) return undefined;
    // The rest of a chunk that is all there is: nothing else could finish, and make room for it.
    if (this.#ready && this.#next && held <= this.#next.bytes) return undefined;
    const brake = (this.#brake ??= deferred<void>());
    this.#share?.used();
    return brake.promise;
  }

  fail(error: TensorwireError): void {
    // A file or pipe ends after END; the sink may still be writing.
    if (this.#oneWay && this.#ended && error.code === "CHANNEL_CLOSED") return;
    this.settings.life.fail(error, true);
  }
}

function allOrNothing(kind: string): TensorwireError {
  const message = `a ${kind} channel without a way back brings all of a model, and nothing can be asked for: leave concurrency out`;
  return new TensorwireError("INVALID_ARGUMENT", message);
}

function otherState(): TensorwireError {
  const message = "the source is in another state than the one that this part is of: begin anew";
  return new TensorwireError("SOURCE_CHANGED", message);
}
