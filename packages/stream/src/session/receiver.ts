import {
  type Chunk,
  type ChunkRange,
  type ChunkRecord,
  COUNT_BYTES,
  type CodecBackend,
  type CodecRegistry,
  DEFAULT_LIMITS,
  encodeAck,
  encodeCredit,
  encodeFrame,
  encodeHeld,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  type Limits,
  type Loan,
  type Manifest,
  maxHeldChunks,
  maxWantRanges,
  missingRanges,
  parseTotals,
  RECORD_BYTES,
  sameSha256,
  type SourceState,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import type { WaitingBytes } from "../diagnostics/events.js";
import type { TransferTrace } from "../diagnostics/transfer-trace.js";
import type { MemoryBudget } from "../budget/memory-budget.js";
import { ReceiverMemory } from "../budget/receiver-memory.js";
import { WindowShare } from "../budget/window-share.js";
import type { ArrivedChunk } from "./chunk-decoder.js";
import type { Connection } from "./connection.js";
import { CreditLedger, CreditNotice } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { type Expectations, ExpectedChunks } from "./expected-chunks.js";
import { checkDigest, type IntegrityDemands } from "./expected-digest.js";
import { withinGrace } from "./grace.js";
import type { HeldChunks } from "./held-chunks.js";
import type { IncomingModel } from "./incoming-model.js";
import { Lane } from "./lane.js";
import type { Progress } from "./progress.js";
import type { Arrivals, Reception } from "./reception.js";
import { SinkPump } from "./sink-pump.js";
import { StallWatch, type WatchedEnd } from "./stall-watch.js";
import type { TransferSummary } from "./summary.js";
import type { TransferLife } from "./transfer.js";
import type { ReceivingEnd } from "./transfer-end.js";

export interface ReceiverSettings extends Pick<IntegrityDemands, "expectedDigest"> {
  readonly reception: Reception;
  readonly windowBytes: number;
  readonly limits: Limits;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly budget: MemoryBudget;
  readonly progress: Progress;
  /** Of this attempt. */
  readonly life: TransferLife;
  readonly trace: TransferTrace;
  /** How long the peer may do nothing for it. 0: for ever. */
  readonly stallTimeoutMs: number;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}

/**
 * The receiving end of one attempt at a transfer: validates, says what it has and lacks, grants credit, verifies, decodes in
 * order into the sink, confirms.
 */
export class ModelReceiver implements ReceivingEnd, Arrivals, WatchedEnd, WaitingBytes {
  readonly #announced = deferred<IncomingModel>();
  readonly #end = deferred<Totals>();
  readonly #arrivals = new Lane<ArrivedChunk>(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  readonly #ledger: CreditLedger;
  readonly #credit = new CreditNotice(() => this.#sendCredit());
  readonly #acks = new CreditNotice(() => this.#sendAck());
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
  #asked = false;
  #ended = false;
  #brake: Deferred<void> | undefined;
  #writing = 0;

  constructor(
    private readonly connection: Connection,
    private readonly settings: ReceiverSettings,
  ) {
    this.#ledger = new CreditLedger(settings.windowBytes);
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
      this.#compare(begun, totals);
      // From here on the model is whole: what happens to the channel, or the signal, no longer undoes it.
      await reception.finish(totals);
      return this.#summary(begun, totals, await this.#confirm(totals));
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
    const { life, windowBytes, reception, registry, budget } = this.settings;
    const { sink } = reception.intake;
    const oneWay = this.#oneWay;
    const memory = new ReceiverMemory({ model: begun, sink, pools: begun, registry, windowBytes, oneWay });
    const braked = oneWay ? () => this.#ready && this.#brake !== undefined : undefined;
    this.#share = new WindowShare(memory, this.#ledger, braked, () => this.#moved());
    const pump = new SinkPump(reception.intake, begun.decoder, life, {
      maxBytes: windowBytes / 4,
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

  async #ask({ plan, held }: IncomingModel): Promise<void> {
    const { life, reception } = this.settings;
    const { intake } = reception;
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
    // As many runs as WANT has room for the gaps between: what else is held is asked for, and is then no news.
    const runs = held.ranges(this.#maxRanges - 1);
    const ranges = missingRanges(runs, plan.chunks);
    for (const run of runs) await life.race(this.#sendHeld(held, run));
    this.#expect({ ranges, changed: !sameVersion });
    this.#asked = true;
    const want = { windowBytes: this.#ledger.announce(), ranges, sameVersion };
    await life.race(this.#send(FrameType.WANT, encodeWant(want)));
  }

  /** Bytes of a control frame that the peer takes, unless it has lowered its limit. */
  get #controlBytes(): number {
    return Math.min(this.settings.limits.maxControlBytes, DEFAULT_LIMITS.maxControlBytes);
  }

  get #maxRanges(): number {
    return Math.max(2, maxWantRanges(this.#controlBytes));
  }

  async #sendHeld(held: HeldChunks, run: ChunkRange): Promise<void> {
    const { integrity } = this.#begun!.digest;
    for (const part of held.runs(run, maxHeldChunks(this.#controlBytes, integrity))) {
      await this.#send(FrameType.HELD, encodeHeld(part, integrity));
    }
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
    if (ours > 0) this.#acks.due();
  }

  /** There is room, or more of it: for the peer, or for others. */
  #moved(): void {
    if (this.#share?.settle() && this.#asked && this.#ledger.due) {
      this.#ledger.announce();
      this.#credit.due();
    }
    this.#releaseBrake();
  }

  async #sendCredit(): Promise<void> {
    const { life } = this.settings;
    const { channel } = this.connection;
    const welcome = channel.welcome?.();
    if (welcome) await life.race(welcome).catch(() => {});
    const { announced, finished } = this.#ledger;
    await this.#tell(FrameType.CREDIT, encodeCredit({ limit: announced, finished }));
  }

  async #sendAck(): Promise<void> {
    await this.#tell(FrameType.ACK, encodeAck({ durable: this.#ledger.durable }));
  }

  /** Of interest to a sender that is still at it. */
  async #tell(type: FrameType, body: Uint8Array): Promise<void> {
    const { life } = this.settings;
    if (this.#oneWay || !this.#asked || life.error || this.#ended) return;
    await this.#send(type, body).catch((error) => life.fail(error));
  }

  #compare({ digest, bytes, manifest, tally }: IncomingModel, totals: Totals): void {
    const count = manifest.tensors.length;
    const same = digest.transfer(bytes, count) === totals.digest;
    if (!same || !sameSha256(digest.sha256(bytes, count), totals.sha256)) {
      throw new TensorwireError(
        "DIGEST_MISMATCH",
        "the digests of the two ends differ: send the model again",
      );
    }
    if (totals.chunks !== this.#chunks || totals.sourceBytes !== this.#sourceBytes) {
      const message = `END counts ${totals.chunks} chunks of ${totals.sourceBytes} bytes where ${this.#chunks} of ${this.#sourceBytes} came`;
      throw new TensorwireError("PROTOCOL", message);
    }
    checkDigest(totals, this.settings);
    tally.clamped = totals.clamped;
  }

  /** Whether the peer could be told. */
  async #confirm(totals: Totals): Promise<boolean> {
    if (this.#oneWay) return false;
    const told = this.#send(FrameType.RECEIPT, encodeTotals(totals)).then(
      () => true,
      () => false,
    );
    // A peer that reads nothing, and an abort, leave the model whole and nobody told.
    const { life } = this.settings;
    return (await life.race(told).catch(() => withinGrace(told))) ?? false;
  }

  async #send(type: FrameType, body: Uint8Array): Promise<void> {
    this.#writing++;
    const sent = this.connection.send([encodeFrame(type, this.#transfer, FLAG_TO_SENDER, body)]);
    await sent.finally(() => this.#writing--);
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
    if (this.#writing > 0 || !this.#begun) return true;
    // Without a way back the peer waits where it is braked: there may be no memory yet, or no sink.
    if (this.#ended || !(this.#asked || this.#oneWay) || this.#credit.busy || this.#brake) return false;
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
    const streaming = (this.#asked || this.#oneWay) && !this.#ended;
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
