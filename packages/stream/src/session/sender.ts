import {
  BufferPool,
  type ChunkPlan,
  type ChunkRange,
  type CodecBackend,
  type CodecRegistry,
  encodeDataHead,
  encodeFrame,
  encodeManifest,
  encodeTotals,
  type FrameHeader,
  FrameType,
  frameName,
  type Loan,
  type Manifest,
  parseCredit,
  parseTotals,
  parseWant,
  type SlabAlignment,
  sameSha256,
  TensorwireError,
  type Totals,
  TransferDigest,
  type Want,
} from "@tensorwire/core";
import type { ErrorFeedback } from "../residuals/error-feedback.js";
import { type EncodedSource, isEncodedSource, type ModelSource, READ_AHEAD_BYTES } from "../source/source.js";
import { ChunkEncoder } from "./chunk-encoder.js";
import type { Connection, TransferEnd } from "./connection.js";
import { CreditGate } from "./credit.js";
import { deferred } from "./deferred.js";
import { publishEnd } from "./diagnostics.js";
import type { OutgoingChunk } from "./outgoing-chunk.js";
import type { Progress } from "./progress.js";
import { SourcePump } from "./source-pump.js";
import { sha256Of } from "./sha256.js";
import { Tally, type TransferSummary } from "./summary.js";
import type { TransferLife } from "./transfer.js";

export interface SenderSettings {
  readonly manifest: Manifest;
  readonly plan: ChunkPlan;
  /** Open. The sender closes it: what it has read ahead is lent by the sender. */
  readonly source: ModelSource | EncodedSource;
  readonly windowBytes: number;
  readonly registry: CodecRegistry;
  readonly backend: CodecBackend;
  readonly alignment: SlabAlignment | undefined;
  readonly progress: Progress;
  readonly life: TransferLife;
  /** Pack every payload that becomes smaller by it, and not only those of codecs that are made for it. */
  readonly compress: boolean;
  /** What becomes of a chunk with a value that its codec cannot carry: it travels exactly, or ends the transfer. */
  readonly nonFinite: "exact" | "error";
  /** The peer has `lossless`, and so undoes packing. */
  readonly lossless: boolean;
  /** Keeps what payloads leave out for the next transfer. */
  readonly feedback?: ErrorFeedback | undefined;
  /** The longest manifest that the peer takes. */
  readonly maxManifestBytes: number;
  /** The connection is closed when the transfer is over. */
  readonly owned: boolean;
}

/** The sending end of one transfer: manifest, what the peer wants, chunks as credit allows, digests, receipt. */
export class ModelSender implements TransferEnd {
  readonly #want = deferred<Want>();
  readonly #receipt = deferred<Totals>();
  readonly #gate = new CreditGate();
  readonly #tally: Tally;
  readonly #digest: TransferDigest;
  readonly #encoder: ChunkEncoder;
  readonly #pool: BufferPool;
  readonly #pump: SourcePump;
  #wanted = false;
  #ended = false;
  #transfer = 0;

  constructor(
    private readonly connection: Connection,
    private readonly settings: SenderSettings,
  ) {
    const { manifest, plan, source, registry, alignment } = settings;
    this.#tally = new Tally(manifest, registry);
    // Of an artifact: what its encoder counted.
    if (isEncodedSource(source)) this.#tally.clamped = source.clamped ?? 0;
    this.#digest = new TransferDigest(plan, sha256Of(manifest));
    this.#pool = new BufferPool(Math.max(plan.maxChunkBytes, READ_AHEAD_BYTES), alignment);
    this.#encoder = new ChunkEncoder(settings, this.#pool);
    this.#pump = new SourcePump(settings, this.#encoder, this.#gate, (chunks) => this.#sendChunks(chunks));
  }

  async run(): Promise<TransferSummary> {
    const { connection, settings } = this;
    const { life, manifest, progress, plan, owned } = settings;
    progress.totalBytes = plan.bytes;
    progress.totalTensors = manifest.tensors.length;
    life.failed.catch((error) => this.#gate.fail(error));
    let work: Promise<unknown> = Promise.resolve();
    try {
      this.#transfer = connection.openSending(this);
      const bytes = this.#manifestBytes();
      const begin = this.#send(encodeFrame(FrameType.MANIFEST, this.#transfer, 0, bytes));
      work = begin;
      await life.race(begin);
      const twoWay = connection.channel.direction === "both";
      const ranges = twoWay ? await this.#negotiate() : this.#everything();
      const streaming = this.#stream(ranges);
      work = streaming;
      await life.race(streaming);
      const totals = this.#totals(bytes);
      this.#ended = true;
      const ending = this.#send(encodeFrame(FrameType.END, this.#transfer, 0, encodeTotals(totals)));
      work = ending;
      await life.race(ending);
      if (twoWay) this.#confirm(totals, await life.race(this.#receipt.promise));
      return this.#summary(totals, twoWay);
    } catch (error) {
      life.fail(error);
      await life.abandon(connection, { transfer: this.#transfer, flags: 0, owned }, work);
      throw life.error;
    } finally {
      connection.release(this);
      await this.#pump.drain();
      await settings.source.close();
      publishEnd({ role: "send", error: life.error, loans: this.#pool.loans + this.#encoder.loans });
    }
  }

  #manifestBytes(): Uint8Array {
    const { manifest, maxManifestBytes } = this.settings;
    const bytes = encodeManifest(manifest);
    if (bytes.length <= maxManifestBytes) return bytes;
    const message = `the manifest takes ${bytes.length} bytes; the other side takes at most ${maxManifestBytes}`;
    throw new TensorwireError("LIMIT_EXCEEDED", message);
  }

  async #negotiate(): Promise<readonly ChunkRange[]> {
    const want = await this.settings.life.race(this.#want.promise);
    if (want.windowBytes < this.settings.plan.maxChunkBytes) {
      throw new TensorwireError("PROTOCOL", `the peer grants ${want.windowBytes} bytes, less than one chunk`);
    }
    this.#gate.grant(want.windowBytes);
    return want.ranges;
  }

  #everything(): ChunkRange[] {
    // Nobody grants credit on a channel without a way back: its own back-pressure paces it.
    this.#gate.grant(Number.MAX_SAFE_INTEGER);
    return [{ first: 0, count: this.settings.plan.chunks }];
  }

  async #stream(ranges: readonly ChunkRange[]): Promise<void> {
    await this.#pump.run(ranges);
    const { source, life, feedback } = this.settings;
    // Before END, after which the peer may confirm: all that is left to do then is to give a file its name.
    await feedback?.complete();
    // Raced as its reads are: the caller's code may take its time, and a failure does not wait for it.
    if ("verify" in source && source.verify) await life.race(source.verify());
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
    const { plan, progress } = this.settings;
    this.#digest.add(chunk.ordinal, record.codec, record.hash, sha256);
    this.#tally.add(record, chunk.bytes);
    this.#tally.clamped += clamped;
    if (declined) this.#tally.declinedChunks++;
    progress.sourceBytes += chunk.bytes;
    if (chunk.index === plan.range(chunk.tensor).count - 1) progress.tensors++;
  }

  async #send(...parts: Uint8Array[]): Promise<void> {
    await this.connection.send(parts);
    for (const part of parts) this.settings.progress.wireBytes += part.length;
  }

  #totals(manifest: Uint8Array): Totals {
    const { tensors } = this.settings.manifest;
    return {
      digest: this.#digest.transfer(manifest, tensors.length),
      sha256: this.#digest.sha256(manifest, tensors.length),
      chunks: this.#tally.chunks,
      sourceBytes: this.#tally.sourceBytes,
      clamped: this.#tally.clamped,
    };
  }

  #confirm(sent: Totals, received: Totals): void {
    const same = sent.digest === received.digest && sameSha256(sent.sha256, received.sha256);
    if (same && sent.chunks === received.chunks) return;
    throw new TensorwireError(
      "DIGEST_MISMATCH",
      "the peer's receipt is for other data than was sent: send it again",
    );
  }

  #summary(totals: Totals, confirmed: boolean): TransferSummary {
    const { progress, backend } = this.settings;
    // Empty tensors have no chunk to count them by.
    progress.tensors = progress.totalTensors;
    if (confirmed) progress.acknowledgedBytes = totals.sourceBytes;
    return this.#tally.summary({
      wireBytes: progress.wireBytes,
      seconds: progress.seconds,
      digest: totals.digest,
      sha256: totals.sha256,
      confirmed,
      backend: backend.name,
    });
  }

  // --- TransferEnd

  admit({ type }: FrameHeader): void {
    const expected =
      type === FrameType.WANT
        ? !this.#wanted
        : type === FrameType.CREDIT
          ? this.#wanted
          : type === FrameType.RECEIPT
            ? this.#ended
            : type === FrameType.ERROR || type === FrameType.CANCEL;
    if (!expected) throw new TensorwireError("PROTOCOL", `${frameName(type)} out of its order`);
  }

  control({ type }: FrameHeader, body: Uint8Array): void {
    if (type === FrameType.WANT) {
      this.#wanted = true;
      this.#want.resolve(parseWant(body, this.settings.plan.chunks));
    } else if (type === FrameType.CREDIT) {
      const { limit, finished } = parseCredit(body);
      if (finished > this.#gate.taken) {
        const message = `the peer has finished with ${finished} bytes where ${this.#gate.taken} were sent`;
        throw new TensorwireError("PROTOCOL", message);
      }
      this.#gate.grant(limit);
      this.settings.progress.acknowledgedBytes = finished;
      this.settings.progress.tick();
    } else {
      this.#receipt.resolve(parseTotals("RECEIPT", body, this.settings.manifest.integrity));
    }
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
