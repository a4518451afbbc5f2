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
  type SourceState,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { processBudget } from "../budget/process-budget.js";
import { ReceiverMemory } from "../budget/receiver-memory.js";
import { laneBytes } from "../budget/sender-memory.js";
import { WindowShare } from "../budget/window-share.js";
import type { WaitingBytes } from "../diagnostics/events.js";
import { ArrivingChunks } from "./arriving-chunks.js";
import type { Connection } from "./connection.js";
import { CreditLedger } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { checkTotals } from "./end-totals.js";
import { isEncodedSink, type Part } from "../sink/sink.js";
import type { IncomingModel } from "./incoming-model.js";
import type { ReceiverSettings } from "./receiver-settings.js";
import { checkPart } from "./part-terms.js";
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
  readonly #ledger: CreditLedger;
  readonly #arriving: ArrivingChunks;
  readonly #voice: ReceiverVoice;
  #begun: IncomingModel | undefined;
  #version: string | undefined;
  #transfer = 0;
  #share: WindowShare | undefined;
  /** There is memory, and a sink, for what comes. */
  #ready = false;
  #brake: Deferred<void> | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly settings: ReceiverSettings,
  ) {
    this.#ledger = new CreditLedger(settings.windowBytes);
    this.#arriving = new ArrivingChunks(this.#ledger, settings, !this.#oneWay);
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
      const totals = await life.race(this.#arriving.totals);
      checkTotals(totals, begun, this.#arriving.came, this.settings);
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
      await this.#arriving.lane.drain(({ loan }) => loan.release());
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
    await pump.run(this.#arriving.lane);
  }

  /** Of the window: a sender in this process is no further away than its own lane, and there is nothing between to fill. */
  #windowBytes({ plan }: IncomingModel, part: Part | undefined): number {
    const { windowBytes, near } = this.settings;
    const most = near ? laneBytes(plan, windowBytes) : windowBytes;
    return Math.min(most, part?.windowBytes ?? most);
  }

  async #ask(begun: IncomingModel): Promise<void> {
    const { life, reception } = this.settings;
    const { plan, held, version } = begun;
    const { intake } = reception;
    const part = intake.sink.part?.ranges;
    if (part) checkPart(this.connection.channel, this.#version === version);
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
    this.#arriving.expect(begun, { ranges, changed: !sameVersion && !part });
    await this.#voice.ask({ ranges, sameVersion, part: part !== undefined });
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
    const { progress, reception } = this.settings;
    const { backend: own } = this.settings;
    // What stays encoded is verified alone.
    const backend = isEncodedSink(reception.intake.sink) ? { name: own.name, ran: {} } : own;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    return tally.summary({ progress, digest, sha256, confirmed, backend });
  }

  #stop(error: unknown): void {
    this.#announced.reject(error);
    this.#arriving.lane.fail(error);
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
    if (this.#arriving.ended || !asked || this.#voice.granting || this.#brake) return false;
    const { held, announced } = this.#ledger;
    if (held > this.#arriving.nextBytes) return false;
    return this.#oneWay || announced - this.moves >= this.#begun.plan.maxChunkBytes;
  }

  get moves(): number {
    return this.#arriving.came.sourceBytes;
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
      if (this.#oneWay) this.#arriving.expect(begun);
      this.#announced.resolve(begun);
    } catch (error) {
      life.fail(error);
    }
  }

  admit({ type }: FrameHeader): void {
    const { life, progress } = this.settings;
    if (life.error || type === FrameType.ERROR || type === FrameType.CANCEL) return;
    if (type === FrameType.INDEX && this.#oneWay && this.#arriving.ended) return;
    const streaming = (this.#voice.asked || this.#oneWay) && !this.#arriving.ended;
    if (!streaming || (type !== FrameType.DATA && type !== FrameType.END)) {
      throw new TensorwireError("PROTOCOL", `${frameName(type)} out of its order`);
    }
    if (type === FrameType.DATA) progress.wireBytes += HEADER_BYTES + COUNT_BYTES;
  }

  control({ type }: FrameHeader, body: Uint8Array): void {
    if (this.settings.life.error || type !== FrameType.END) return;
    this.#voice.rest();
    this.#arriving.end(body);
  }

  lend(record: ChunkRecord): Loan | undefined {
    // After a failure here, chunks that were under way are read past.
    if (!this.#begun || this.settings.life.error) return undefined;
    const loan = this.#arriving.lend(record);
    this.#share?.used();
    return loan;
  }

  payload(record: ChunkRecord, loan: Loan): void {
    this.#arriving.put(record, loan, !this.settings.life.error);
  }

  brake(): Promise<void> | undefined {
    const { life } = this.settings;
    const { plan } = this.#begun ?? {};
    if (!this.#oneWay || !plan || life.error) return undefined;
    const { held, room } = this.#ledger;
    const { nextBytes } = this.#arriving;
    if (this.#ready && held + plan.maxChunkBytes <= room) return undefined;
    // The rest of a chunk that is all there is: nothing else could finish, and make room for it.
    if (this.#ready && nextBytes > 0 && held <= nextBytes) return undefined;
    const brake = (this.#brake ??= deferred<void>());
    this.#share?.used();
    return brake.promise;
  }

  fail(error: TensorwireError): void {
    // A file or pipe ends after END; the sink may still be writing.
    if (this.#oneWay && this.#arriving.ended && error.code === "CHANNEL_CLOSED") return;
    this.settings.life.fail(error, true);
  }
}
