import {
  BufferPool,
  type Chunk,
  type ChunkPlan,
  type ChunkRecord,
  COUNT_BYTES,
  type CodecBackend,
  type CodecRegistry,
  type DType,
  encodeCredit,
  encodeFrame,
  encodeTotals,
  encodeWant,
  FLAG_TO_SENDER,
  type FrameHeader,
  FrameType,
  frameName,
  HEADER_BYTES,
  isFloatDType,
  type Limits,
  type Loan,
  type Manifest,
  parseManifest,
  parseTotals,
  RECORD_BYTES,
  type SlabAlignment,
  TensorwireError,
  type Totals,
  TransferDigest,
  unpooled,
} from "@tensorwire/core";
import type { Sink, SinkModel } from "../sink/sink.js";
import { type ArrivedChunk, ChunkDecoder } from "./chunk-decoder.js";
import type { Connection, ReceivingEnd } from "./connection.js";
import { CreditLedger } from "./credit.js";
import { type Deferred, deferred } from "./deferred.js";
import { publishEnd } from "./diagnostics.js";
import { ExpectedChunks } from "./expected-chunks.js";
import { Lane } from "./lane.js";
import type { Progress } from "./progress.js";
import { SinkPump } from "./sink-pump.js";
import { Tally, type TransferSummary } from "./summary.js";
import type { TransferLife } from "./transfer.js";

export interface ReceiverSettings {
  /** Makes the sink for a model that has been announced and validated. */
  readonly sink: (manifest: Manifest) => Sink | Promise<Sink>;
  /** Convert float tensors to this dtype; else each arrives in its own. */
  readonly outputDtype: DType | undefined;
  readonly windowBytes: number;
  readonly limits: Limits;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly alignment: SlabAlignment | undefined;
  readonly progress: Progress;
  readonly life: TransferLife;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}

/** What a manifest makes of a receiver. */
interface Begun extends SinkModel {
  /** The manifest's bytes, as the digest takes them. */
  readonly bytes: Uint8Array;
  readonly expected: ExpectedChunks;
  readonly pool: BufferPool;
  readonly decoder: ChunkDecoder;
  readonly tally: Tally;
  readonly digest: TransferDigest;
}

/** The receiving end of one transfer: validates, grants credit, verifies, decodes in order into the sink, confirms. */
export class ModelReceiver implements ReceivingEnd {
  readonly #announced = deferred<Begun>();
  readonly #end = deferred<Totals>();
  readonly #arrivals = new Lane<ArrivedChunk>(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  readonly #ledger: CreditLedger;
  #begun: Begun | undefined;
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
        .then(() => sink?.abort(life.error!));
      const to = { transfer: this.#transfer, flags: FLAG_TO_SENDER, owned };
      await life.abandon(this.connection, to, work);
      await aborting;
      throw life.error;
    } finally {
      this.connection.release(this);
      await this.#arrivals.drain(({ loan }) => loan.release());
      const { pool, decoder } = this.#begun ?? {};
      publishEnd({ role: "receive", error: life.error, loans: (pool?.loans ?? 0) + (decoder?.loans ?? 0) });
    }
  }

  async #stream(begun: Begun, sink: Sink): Promise<void> {
    const { life, windowBytes } = this.settings;
    const { decoder, digest, tally, plan } = begun;
    const pump = new SinkPump(sink, decoder, life, {
      maxBytes: windowBytes / 4,
      verified: ({ chunk, record }) => {
        digest.add(chunk.ordinal, record.codec, record.hash);
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
    await this.#send(FrameType.WANT, encodeWant({ windowBytes: this.settings.windowBytes, ranges }));
  }

  #finished(plan: ChunkPlan, chunk: Chunk): void {
    const { progress, life } = this.settings;
    const announce = this.#ledger.finish(chunk.bytes);
    progress.sourceBytes = this.#ledger.finished;
    progress.acknowledgedBytes = this.#ledger.finished;
    if (chunk.index === plan.range(chunk.tensor).count - 1) progress.tensors++;
    progress.tick();
    if (announce && !this.#oneWay && !life.error && !this.#ended) {
      const { limit, finished } = this.#ledger;
      this.#send(FrameType.CREDIT, encodeCredit({ limit, finished })).catch((error) => life.fail(error));
    }
    this.#releaseBrake();
  }

  #compare({ digest, bytes, manifest, tally }: Begun, totals: Totals): void {
    if (digest.transfer(bytes, manifest.tensors.length) !== totals.digest) {
      throw new TensorwireError(
        "DIGEST_MISMATCH",
        "the digests of the two ends differ: send the model again",
      );
    }
    tally.clamped = totals.clamped;
  }

  /** Whether the peer could be told. */
  async #confirm(totals: Totals): Promise<boolean> {
    if (this.#oneWay) return false;
    return this.#send(FrameType.RECEIPT, encodeTotals(totals)).then(
      () => true,
      () => false,
    );
  }

  async #send(type: FrameType, body: Uint8Array): Promise<void> {
    await this.connection.send([encodeFrame(type, this.#transfer, FLAG_TO_SENDER, body)]);
  }

  #summary({ tally }: Begun, { digest }: Totals, confirmed: boolean): TransferSummary {
    const { progress, backend } = this.settings;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    progress.done();
    const { wireBytes, seconds } = progress;
    return tally.summary({ wireBytes, seconds, digest, confirmed, backend: backend.name });
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
    const { life, progress, registry, limits, backend, alignment, windowBytes } = this.settings;
    progress.wireBytes += HEADER_BYTES + body.length;
    try {
      const { manifest, plan } = parseManifest(body, limits, registry);
      if (plan.maxChunkBytes > windowBytes / 2) {
        throw new TensorwireError(
          "LIMIT_EXCEEDED",
          `the peer's chunks of ${plan.maxChunkBytes} bytes are over half of this side's window of ${windowBytes}: ` +
            "raise windowBytes here, or lower chunkBytes there",
        );
      }
      const dtypes = manifest.tensors.map(({ dtype }) => this.#outputDtype(manifest, dtype));
      const pool = new BufferPool(Math.max(plan.maxChunkBytes, 1), alignment);
      this.#begun = {
        manifest,
        plan,
        dtypes,
        bytes: body,
        pool,
        expected: new ExpectedChunks(manifest, plan, registry),
        decoder: new ChunkDecoder({ manifest, plan, dtypes, registry, backend, alignment, jobs: life.jobs }),
        tally: new Tally(manifest, registry),
        digest: new TransferDigest(plan),
      };
      progress.totalBytes = plan.bytes;
      progress.totalTensors = manifest.tensors.length;
      this.#announced.resolve(this.#begun);
    } catch (error) {
      life.fail(error);
    }
  }

  #outputDtype(manifest: Manifest, dtype: DType): DType {
    const { outputDtype } = this.settings;
    return manifest.kind === "model" && outputDtype && isFloatDType(dtype) ? outputDtype : dtype;
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
    const totals = parseTotals("END", body);
    this.settings.progress.wireBytes += HEADER_BYTES + body.length;
    this.#ended = true;
    this.#begun!.expected.end();
    this.#end.resolve(totals);
    this.#arrivals.close();
  }

  lend(record: ChunkRecord): Loan {
    const begun = this.#begun;
    // After a failure here, chunks that were under way are read past.
    if (!begun || this.settings.life.error) return unpooled(new Uint8Array(record.packedBytes));
    const chunk = begun.expected.take(record);
    this.#ledger.arrive(chunk.bytes, !this.#oneWay);
    this.#next = chunk;
    this.settings.progress.wireBytes += RECORD_BYTES + record.packedBytes;
    return begun.pool.lend(record.payloadBytes);
  }

  payload(record: ChunkRecord, loan: Loan): void {
    const chunk = this.#next;
    this.#next = undefined;
    if (!chunk || this.settings.life.error) return loan.release();
    this.#arrivals.put(chunk.bytes, Promise.resolve({ chunk, record, loan }));
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
