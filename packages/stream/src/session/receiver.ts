import {
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  COUNT_BYTES,
  encodeCredit,
  encodeFrame,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  type Loan,
  type Manifest,
  parseTotals,
  RECORD_BYTES,
  sameSha256,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import type { Sink } from "../sink/sink.js";
import type { ArrivedChunk } from "./chunk-decoder.js";
import type { Connection, ReceivingEnd } from "./connection.js";
import { CreditLedger, CreditNotice } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { publishEnd } from "./diagnostics.js";
import { checkDigest } from "./expected-digest.js";
import { withinGrace } from "./grace.js";
import { type IncomingModel, type IncomingSettings, incomingModel } from "./incoming-model.js";
import { Lane } from "./lane.js";
import type { Progress } from "./progress.js";
import { SinkPump } from "./sink-pump.js";
import type { TransferSummary } from "./summary.js";
import type { TransferLife } from "./transfer.js";

export interface ReceiverSettings extends IncomingSettings {
  /** Makes the sink for a model that has been announced and validated. */
  readonly sink: (manifest: Manifest) => Sink | Promise<Sink>;
  readonly progress: Progress;
  readonly life: TransferLife;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}

/** The receiving end of one transfer: validates, grants credit, verifies, decodes in order into the sink, confirms. */
export class ModelReceiver implements ReceivingEnd {
  readonly #announced = deferred<IncomingModel>();
  readonly #end = deferred<Totals>();
  readonly #arrivals = new Lane<ArrivedChunk>(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  readonly #ledger: CreditLedger;
  readonly #credit = new CreditNotice(() => this.#sendCredit());
  #begun: IncomingModel | undefined;
  #next: Chunk | undefined;
  #transfer = 0;
  #asked = false;
  #ended = false;
  #brake: Deferred<void> | undefined;

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
    const { life, owned } = this.settings;
    life.failed.catch((error) => this.#stop(error));
    let work: Promise<unknown> = Promise.resolve();
    let opening: Promise<void> | undefined;
    let sink: Sink | undefined;
    try {
      this.connection.receive(this);
      const begun = await life.race(this.#announced.promise);
      sink = await this.settings.sink(begun.manifest);
      opening = sink.open(begun);
      await life.race(opening);
      const streaming = this.#stream(begun, sink);
      work = streaming;
      await life.race(streaming);
      const totals = await life.race(this.#end.promise);
      this.#compare(begun, totals);
      // From here on the model is whole: what happens to the channel, or the signal, no longer undoes it.
      await sink.finish(totals);
      return this.#summary(begun, totals, await this.#confirm(totals));
    } catch (error) {
      life.fail(error);
      const aborting = Promise.resolve(opening)
        .catch(() => {})
        .then(() => sink?.abort(life.error!))
        // The caller's sink may break its word; the first cause stays.
        .catch(() => {});
      const to = { transfer: this.#transfer, flags: FLAG_TO_SENDER, owned };
      await life.abandon(this.connection, to);
      await work.catch(() => {});
      await aborting;
      throw life.error;
    } finally {
      this.connection.release(this);
      await this.#arrivals.drain(({ loan }) => loan.release());
      const { pool, decoder } = this.#begun ?? {};
      publishEnd({ role: "receive", error: life.error, loans: (pool?.loans ?? 0) + (decoder?.loans ?? 0) });
    }
  }

  async #stream(begun: IncomingModel, sink: Sink): Promise<void> {
    const { life, windowBytes } = this.settings;
    const { decoder, digest, tally, plan } = begun;
    const pump = new SinkPump(sink, decoder, life, {
      maxBytes: windowBytes / 4,
      verified: ({ chunk, record, sha256 }) => {
        digest.add(chunk.ordinal, record.codec, record.hash, sha256);
        tally.add(record, chunk.bytes);
      },
      finished: (chunk) => this.#finished(plan, chunk),
    });
    await this.#ask(plan);
    await pump.run(this.#arrivals);
  }

  async #ask(plan: ChunkPlan): Promise<void> {
    this.#asked = true;
    if (this.#oneWay) return;
    const ranges = plan.chunks ? [{ first: 0, count: plan.chunks }] : [];
    const { windowBytes, life } = this.settings;
    await life.race(this.#send(FrameType.WANT, encodeWant({ windowBytes, ranges })));
  }

  #finished(plan: ChunkPlan, chunk: Chunk): void {
    const { progress } = this.settings;
    const announce = this.#ledger.finish(chunk.bytes);
    progress.sourceBytes = this.#ledger.finished;
    progress.acknowledgedBytes = this.#ledger.finished;
    if (chunk.index === plan.range(chunk.tensor).count - 1) progress.tensors++;
    progress.tick();
    if (announce) this.#credit.due();
    this.#releaseBrake();
  }

  async #sendCredit(): Promise<void> {
    const { life } = this.settings;
    const { channel } = this.connection;
    const welcome = channel.welcome?.();
    if (welcome) await life.race(welcome).catch(() => {});
    if (this.#oneWay || life.error || this.#ended) return;
    const { limit, finished } = this.#ledger;
    await this.#send(FrameType.CREDIT, encodeCredit({ limit, finished })).catch((error) => life.fail(error));
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
    if (totals.chunks !== tally.chunks || totals.sourceBytes !== tally.sourceBytes) {
      const { chunks, sourceBytes } = tally;
      const message = `END counts ${totals.chunks} chunks of ${totals.sourceBytes} bytes where ${chunks} of ${sourceBytes} came`;
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
    await this.connection.send([encodeFrame(type, this.#transfer, FLAG_TO_SENDER, body)]);
  }

  #summary({ tally }: IncomingModel, { digest, sha256 }: Totals, confirmed: boolean): TransferSummary {
    const { progress, backend } = this.settings;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    const { wireBytes, seconds } = progress;
    return tally.summary({ wireBytes, seconds, digest, sha256, confirmed, backend: backend.name });
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

  // --- ReceivingEnd

  /** Called with the manifest's bytes, while the connection parses: payloads may follow at once. */
  begin(transfer: number, body: Uint8Array): void {
    this.#transfer = transfer;
    const { life, progress } = this.settings;
    progress.wireBytes += HEADER_BYTES + body.length;
    try {
      const begun = incomingModel(body, this.settings, life.jobs);
      this.#begun = begun;
      progress.totalBytes = begun.plan.bytes;
      progress.totalTensors = begun.manifest.tensors.length;
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
    this.#begun!.expected.end();
    this.#end.resolve(totals);
    this.#arrivals.close();
  }

  lend(record: ChunkRecord): Loan | undefined {
    const begun = this.#begun;
    // After a failure here, chunks that were under way are read past.
    if (!begun || this.settings.life.error) return undefined;
    const chunk = begun.expected.take(record);
    this.#ledger.arrive(chunk.bytes, !this.#oneWay);
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
    const { windowBytes, life } = this.settings;
    const { plan } = this.#begun ?? {};
    if (!this.#oneWay || !plan || life.error) return undefined;
    if (this.#ledger.held + plan.maxChunkBytes <= windowBytes) return undefined;
    this.#brake ??= deferred<void>();
    return this.#brake.promise;
  }

  fail(error: TensorwireError): void {
    // A file or pipe ends after END; the sink may still be writing.
    if (this.#oneWay && this.#ended && error.code === "CHANNEL_CLOSED") return;
    this.settings.life.fail(error, true);
  }
}
