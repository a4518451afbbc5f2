import {
  type Chunk,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeManifest,
  encodeTotals,
  type FrameHeader,
  FrameType,
  type HashedManifest,
  HEADER_BYTES,
  type Loan,
  missingRanges,
  quote,
  sealHeader,
  TensorwireError,
  type Totals,
  TransferDigest,
  type Want,
} from "@tensorwire/core";
import type { WaitingBytes } from "../diagnostics/events.js";
import { CommonBudget } from "../budget/common-budget.js";
import { LaneShare } from "../budget/lane-share.js";
import { processBudget } from "../budget/process-budget.js";
import { SenderMemory } from "../budget/sender-memory.js";
import { ChunkEncoder } from "./chunk-encoder.js";
import { inChunk } from "./chunk-fault.js";
import type { Connection } from "./connection.js";
import { CreditGate } from "./credit.js";
import { checkReceipt } from "./end-totals.js";
import { HeldChunks, sameDigest } from "./held-chunks.js";
import type { OutgoingChunk } from "./outgoing-chunk.js";
import { ReceiverWords } from "./receiver-words.js";
import type { SenderSettings } from "./sender-settings.js";
import { sha256Of } from "./sha256.js";
import { SourcePump } from "./source-pump.js";
import { StallWatch, type WatchedEnd } from "./stall-watch.js";
import { isEncodedSource } from "../source/source.js";
import type { TransferSummary } from "./summary.js";
import type { TransferEnd } from "./transfer-end.js";

/**
 * The sending end of one attempt at a transfer: manifest, what the peer has and wants, chunks as credit allows, digests,
 * receipt.
 */
export class ModelSender implements TransferEnd, WatchedEnd, WaitingBytes {
  readonly #gate = new CreditGate();
  readonly #digest: TransferDigest;
  /** What the peer has, as it says, and as far as that has not changed. */
  readonly #held: HeldChunks;
  readonly #words: ReceiverWords;
  readonly #encoder: ChunkEncoder;
  readonly #share: LaneShare;
  readonly #pump: SourcePump;
  #ended = false;
  #transfer = 0;
  /** On this connection. */
  #chunks = 0;
  #sentBytes = 0;
  #writing = 0;

  constructor(
    private readonly connection: Connection,
    private readonly settings: SenderSettings,
  ) {
    const { manifest, plan, pools } = settings;
    this.#digest = new TransferDigest(plan, sha256Of(manifest));
    this.#held = new HeldChunks(plan, this.#digest);
    this.#words = new ReceiverWords(settings, this.#digest.integrity, this.#held, this.#gate);
    this.#encoder = new ChunkEncoder(settings, pools);
    const residualBytes = settings.feedback?.chunkBytes ?? 0;
    this.#share = new LaneShare(new SenderMemory({ ...settings, residualBytes }));
    const gates = { credit: this.#gate, memory: this.#share };
    this.#pump = new SourcePump(settings, this.#encoder, gates, (chunks) => this.#sendChunks(chunks));
  }

  /** Resolves when the source is not busy any more. */
  get idle(): Promise<void> {
    return this.#encoder.idle;
  }

  async run(): Promise<TransferSummary> {
    const { connection, settings } = this;
    const { life, owned, budget = processBudget("send") } = settings;
    life.failed.catch((error) => {
      this.#gate.fail(error);
      this.#share.fail(error);
    });
    settings.trace.attempt(connection, this);
    const stall = new StallWatch(this, settings.stallTimeoutMs, life);
    let work: Promise<unknown> = Promise.resolve();
    try {
      this.#transfer = connection.openSending(this);
      const twoWay = connection.channel.direction === "both";
      const begin = this.#announce(twoWay);
      work = begin;
      const manifest = await life.race(begin);
      // The receiver, in this process too, gets its minimum only together with this end.
      const share = budget instanceof CommonBudget ? this.#share.open(budget, life.jobs) : undefined;
      share?.catch(() => {});
      const want = twoWay ? await this.#negotiate() : this.#everything();
      await life.race(share ?? this.#share.open(budget, life.jobs));
      const streaming = this.#stream(want);
      work = streaming;
      await life.race(streaming);
      const totals = this.#totals(manifest);
      this.#ended = true;
      const ending = this.#send(encodeFrame(FrameType.END, this.#transfer, 0, encodeTotals(totals)));
      work = ending;
      await life.race(ending);
      if (twoWay) checkReceipt(totals, await life.race(this.#words.receipt));
      return this.#summary(totals, twoWay);
    } catch (error) {
      life.fail(error);
      await life.abandon(connection, { transfer: this.#transfer, flags: 0, owned }, work);
      throw life.error;
    } finally {
      stall.stop();
      settings.trace.attempted();
      connection.release(this);
      await this.#pump.drain();
      this.#share.close();
    }
  }

  /** SOURCE is for a peer that can answer: it is no part of an artifact. */
  async #announce(twoWay: boolean): Promise<HashedManifest> {
    const { version } = this.settings;
    const manifest = this.#manifestBytes();
    const header = {
      type: FrameType.MANIFEST,
      transfer: this.#transfer,
      flags: 0,
      bodyBytes: manifest.length,
    };
    // One frame with its body would be the manifest once more, which may be large.
    const frames = [new Uint8Array(HEADER_BYTES), manifest];
    sealHeader(frames[0]!, header, manifest);
    if (twoWay && version !== undefined) {
      frames.unshift(encodeFrame(FrameType.SOURCE, this.#transfer, 0, encodeJson({ version })));
    }
    await this.#send(...frames);
    return this.#digest.manifest(manifest);
  }

  #manifestBytes(): Uint8Array {
    const { manifest, maxManifestBytes } = this.settings;
    const bytes = encodeManifest(manifest);
    if (bytes.length <= maxManifestBytes) return bytes;
    const message = `the manifest takes ${bytes.length} bytes; the other side takes at most ${maxManifestBytes}`;
    throw new TensorwireError("LIMIT_EXCEEDED", message);
  }

  async #negotiate(): Promise<Want> {
    const { life, progress, trace, ifChanged } = this.settings;
    const want = await life.race(this.#words.want);
    if (want.part) this.#begin(want);
    const again = !want.sameVersion && ifChanged === "restart";
    const ranges = again ? this.#held.and(want.ranges) : want.ranges;
    if (again) this.#held.clear();
    progress.begin(this.#held.bytes, this.#held.tensors);
    trace.resume(this.#held.bytes);
    return { ...want, ranges };
  }

  /** Only a part of the model is asked for. */
  #begin({ ranges }: Want): void {
    const { plan, progress, feedback } = this.settings;
    if (feedback) {
      const message =
        "the receiver asks for a part of the model, and residuals are of all of it: leave residuals out";
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    progress.totalBytes = this.#held.bytes;
    for (const { bytes } of plan.walk(ranges)) progress.totalBytes += bytes;
  }

  /** Nobody grants credit on a channel without a way back: its own back-pressure paces it. */
  #everything(): Want {
    const windowBytes = Number.MAX_SAFE_INTEGER;
    this.#gate.grant(windowBytes);
    this.settings.progress.begin(0, 0);
    return { windowBytes, ranges: missingRanges([], this.settings.plan.chunks) };
  }

  async #stream({ ranges, sameVersion = false }: Want): Promise<void> {
    const compare = !sameVersion && this.#held.bytes > 0;
    const { source, life, feedback } = this.settings;
    // What is compared is read too.
    source.want?.(compare ? this.#held.and(ranges) : ranges);
    const has = (chunk: Chunk): boolean => this.#held.has(chunk);
    await this.#pump.run(ranges, { compare, has, changed: (chunk) => this.#changed(chunk) });
    // Before END, after which the peer may confirm: all that is left to do then is to give a file its name.
    await feedback?.complete();
    this.#share.rest();
    // Raced as its reads are: the caller's code may take its time, and a failure does not wait for it.
    if ("verify" in source && source.verify) await life.race(source.verify());
  }

  /** Whether a held chunk that was made again is another one: then the peer gets it. */
  #changed({ chunk, record, sha256 }: OutgoingChunk): boolean {
    const { ifChanged, manifest, source, progress } = this.settings;
    if (sameDigest(this.#held.of(chunk), { ...record, sha256 })) return false;
    if (ifChanged === "fail") {
      const message = `${quote(source.name)} has changed since an interrupted transfer sent this chunk: begin anew, or let what has changed be sent again (ifChanged)`;
      throw inChunk(new TensorwireError("SOURCE_CHANGED", message), manifest, chunk);
    }
    this.#held.remove(chunk);
    progress.sourceBytes -= chunk.bytes;
    progress.resumedBytes = Math.min(progress.resumedBytes, this.#held.bytes);
    return true;
  }

  async #sendChunks(chunks: readonly OutgoingChunk[]): Promise<void> {
    const head = encodeDataHead(
      this.#transfer,
      chunks.map(({ record }) => record),
    );
    await this.#send(head, ...chunks.map(({ bytes }) => bytes));
    for (const chunk of chunks) this.#count(chunk);
    this.settings.progress.tick();
  }

  #count({ chunk, record, clamped, declined, sha256 }: OutgoingChunk): void {
    const { plan, progress, tally, trace } = this.settings;
    trace.chunk(chunk, record);
    this.#digest.add(chunk.ordinal, record.codec, record.hash, sha256);
    tally.add(record, chunk.bytes);
    tally.clamped += clamped;
    if (declined) tally.declinedChunks++;
    this.#chunks++;
    this.#sentBytes += chunk.bytes;
    progress.sourceBytes += chunk.bytes;
    if (chunk.index === plan.range(chunk.tensor).count - 1) progress.tensors++;
  }

  async #send(...parts: Uint8Array[]): Promise<void> {
    this.#writing++;
    await this.connection.send(parts).finally(() => this.#writing--);
    for (const part of parts) this.settings.progress.wireBytes += part.length;
  }

  #totals(manifest: HashedManifest): Totals {
    const { tensors } = this.settings.manifest;
    return {
      digest: this.#digest.transfer(manifest, tensors.length),
      sha256: this.#digest.sha256(manifest, tensors.length),
      chunks: this.#chunks,
      // All that credit was taken for is sent by now.
      sourceBytes: this.#gate.taken,
      clamped: this.settings.tally.clamped,
    };
  }

  #summary({ digest, sha256 }: Totals, confirmed: boolean): TransferSummary {
    const { progress, backend: own, tally, source } = this.settings;
    // What is encoded already goes as it is.
    const backend = isEncodedSource(source) ? { name: own.name, ran: {} } : own;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    if (confirmed) {
      progress.acknowledgedBytes = progress.totalBytes;
      progress.durableBytes = progress.totalBytes;
    }
    return tally.summary({ progress, digest, sha256, confirmed, backend });
  }

  // --- WaitingBytes

  get inFlightBytes(): number {
    return this.#sentBytes - this.#words.finishedBytes;
  }

  get queuedBytes(): number {
    return this.#gate.taken - this.#sentBytes;
  }

  // --- WatchedEnd

  /** A write that does not leave, credit, the answer to the manifest or to END. A source that takes its time is no peer. */
  get awaitsPeer(): boolean {
    if (this.#writing > 0 || this.#gate.waiting || this.#ended) return true;
    return this.#transfer > 0 && !this.#words.wanted && this.connection.channel.direction === "both";
  }

  get moves(): number {
    return this.#gate.taken + this.#gate.limit + this.#words.finishedBytes + this.#words.durable;
  }

  // --- TransferEnd

  admit({ type }: FrameHeader): void {
    this.#words.admit(type, this.#ended);
  }

  control({ type }: FrameHeader, body: Uint8Array): void {
    this.#words.take(type, body);
  }

  lend(): Loan {
    throw new TensorwireError("PROTOCOL", "DATA towards the sender");
  }

  payload(): void {
    throw new TensorwireError("PROTOCOL", "DATA towards the sender");
  }

  fail(error: TensorwireError): void {
    this.settings.life.fail(error, true);
  }
}
