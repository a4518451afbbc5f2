import {
  BATCH_BYTES,
  type Chunk,
  type ChunkDigest,
  ChunkIndex,
  type ChunkRecord,
  COUNT_BYTES,
  type CodecBackend,
  type CodecRegistry,
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeDataHead,
  encodeFooter,
  encodeFrame,
  encodeIndexHead,
  encodeJson,
  encodeTotals,
  FOOTER_BYTES,
  FrameType,
  HEADER_BYTES,
  type Held,
  type Hello,
  indexBytes,
  PREAMBLE,
  PROTOCOL_VERSION,
  quote,
  RECORD_BYTES,
  TensorwireError,
  type Totals,
  type TransferDigest,
} from "@tensorwire/core";
import { recoveredFrames, writtenFrames } from "../artifact/written-frames.js";
import { journalHead } from "../journal/head.js";
import type { AppendedSoFar, Journal } from "../journal/journal.js";
import { NotedChunks } from "../journal/noted-chunks.js";
import { FrameBatch } from "./frame-batch.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import type { EncodedSink, Resumable, SinkModel } from "./sink.js";

export interface ArtifactOptions extends TargetOptions {
  /** Codecs by which the size is estimated before any data. Default: all of this library. */
  readonly registry?: CodecRegistry | undefined;
  /** Verifies what an earlier attempt left without a journal. Default: the portable one. */
  readonly backend?: Pick<CodecBackend, "hash" | "unpack"> | undefined;
}

// A file holds one transfer.
const TRANSFER = 1;
const MAX_FRAME_BYTES = 2 ** 32 - 1;

/**
 * Keeps a model encoded, as it travelled: the file is what a channel without a way back would carry, and behind it an index.
 * The same chunks give the same file, whenever they come.
 * @example
 * await transferModel("model.safetensors", artifactSink("packed.twire"), { codec: "blockwise8" });
 */
export function artifactSink(path: string, options: ArtifactOptions = {}): EncodedSink {
  return new ArtifactSink(path, options);
}

class ArtifactSink implements EncodedSink {
  readonly #batch = new FrameBatch(TRANSFER);
  #file: PartFile | undefined;
  #model: SinkModel | undefined;
  #index: ChunkIndex | undefined;
  #headBytes = 0;
  #position = 0;
  resumable: Resumable | undefined;

  constructor(
    readonly name: string,
    private readonly options: ArtifactOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    const { dtypes, manifest, plan, bytes } = model;
    if (manifest.tensors.some(({ dtype }, i) => dtype !== dtypes[i])) {
      const message = `${quote(this.name)} keeps the model as it travelled, dtypes and all: leave out outputDtype`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    checkIndex(this.name, model);
    const { registry = defaultCodecs, resume = true, ...options } = this.options;
    const hello = encodeFrame(FrameType.HELLO, 0, 0, encodeJson(helloFor(model)));
    const head = Buffer.concat([PREAMBLE, hello, encodeFrame(FrameType.MANIFEST, TRANSFER, 0, bytes)]);
    const topic = resume ? journalHead(model, ["artifact", hello]) : undefined;
    const file = await PartFile.open(this.name, {
      ...options,
      expectedBytes: estimate(model, registry),
      topic,
      beginsWith: resume ? head : undefined,
    });
    this.#file = file;
    this.#model = model;
    this.#headBytes = head.length;
    this.#index = new ChunkIndex(plan, manifest.integrity);
    if (file.journal && (await this.#goOn(file, file.journal))) return;
    this.#index = new ChunkIndex(plan, manifest.integrity);
    this.#position = 0;
    await file.truncate(0);
    await this.#append([head]);
  }

  /** Where an earlier attempt got to. A file that only grows cannot take other chunks in the place of those it has. */
  async #goOn(file: PartFile, journal: Journal): Promise<boolean> {
    this.resumable = new AppendingResumable(journal, this.name, () => {
      const [position, moment] = [this.#position, this.#batch.moment()];
      return () => ({ bytes: position, tail: this.#batch.frameAt(moment) });
    });
    if (file.recovered) return this.#recover(file, journal);
    const known = journal.known.get(file.name);
    if (!known) return false;
    const [run, ...others] = journal.held;
    const sound = (journal.sameVersion || journal.recovered) && run?.first === 0 && !others.length;
    if (sound && (await this.#restore(file, known.size, journal.tail, run.chunks.length))) return true;
    this.#batch.clear();
    await journal.restart();
    return false;
  }

  /** Takes what a journal vouches for: so many bytes, and behind them what was collected. */
  async #restore(file: PartFile, bytes: number, tail: Uint8Array, chunks: number): Promise<boolean> {
    this.#position = this.#headBytes;
    for await (const { records, end } of writtenFrames(file, this.#model!.plan, this.#headBytes, TRANSFER)) {
      if (end > bytes) break;
      for (const record of records) this.#index!.add(record);
      this.#position = end;
    }
    this.#batch.restore(tail);
    if (this.#position !== bytes || this.#index!.entries + this.#batch.count !== chunks) return false;
    await file.truncate(bytes);
    return true;
  }

  /** Takes the whole frames of a file that no journal tells of, each payload verified. */
  async #recover(file: PartFile, journal: Journal): Promise<boolean> {
    const { manifest } = this.#model!;
    const { backend, registry } = this.options;
    const noted = new NotedChunks(manifest.integrity ?? "xxh64");
    const frames = recoveredFrames(file, this.#model!, this.#headBytes, TRANSFER, { backend, registry });
    this.#position = this.#headBytes;
    for await (const { chunks, end } of frames) {
      for (const { ordinal, record, digest } of chunks) {
        this.#index!.add(record);
        noted.add(ordinal, digest);
      }
      this.#position = end;
    }
    if (noted.count === 0) return false;
    await file.truncate(this.#position);
    journal.recover(noted, manifest.integrity ?? "xxh64");
    (this.resumable as AppendingResumable).mark();
    return true;
  }

  writeEncoded(_chunk: Chunk, record: ChunkRecord, payload: Uint8Array): Promise<void> | undefined {
    if (payload.length >= BATCH_BYTES) return this.#writeLarge(record, payload);
    if (!this.#batch.fits(payload)) return this.#flush().then(() => this.#batch.add(record, payload));
    this.#batch.add(record, payload);
    return undefined;
  }

  async #writeLarge(record: ChunkRecord, payload: Uint8Array): Promise<void> {
    await this.#flush();
    await this.#appendChunks([record], payload);
  }

  async #flush(): Promise<void> {
    const { records, payloads } = this.#batch.take();
    if (records.length) await this.#appendChunks(records, payloads);
  }

  async #appendChunks(records: readonly ChunkRecord[], payloads: Uint8Array): Promise<void> {
    const head = encodeDataHead(TRANSFER, records);
    let position = this.#position + head.length;
    for (const record of records) {
      this.#index!.add({ ...record, position });
      position += record.packedBytes;
    }
    await this.#append([head, payloads]);
  }

  async #append(parts: readonly Uint8Array[]): Promise<void> {
    const position = this.#position;
    for (const { length } of parts) this.#position += length;
    await this.#file!.write(parts, position);
  }

  async finish({ digest, sha256, clamped }: Totals, digests?: TransferDigest): Promise<void> {
    await this.#flush();
    const endPosition = this.#position;
    // Those of the last connection may be fewer.
    const { chunks, bytes: sourceBytes } = this.#model!.plan;
    const totals = { digest, sha256, chunks, sourceBytes, clamped };
    const end = encodeFrame(FrameType.END, TRANSFER, 0, encodeTotals(totals));
    const body = this.#indexBody(digests);
    const index = encodeIndexHead(TRANSFER, body);
    const fileBytes = endPosition + end.length + index.length + body.length + FOOTER_BYTES;
    const footer = encodeFooter({ headBytes: this.#headBytes, endPosition, fileBytes });
    await this.#append([end, index, body, footer]);
    await this.#file!.finish();
  }

  #indexBody(digests: TransferDigest | undefined): Uint8Array {
    const { tensors, integrity } = this.#model!.manifest;
    if (integrity === "sha256") {
      for (let i = 0; i < tensors.length; i++) this.#index!.setTensor(i, digestOf(digests, i));
    }
    return this.#index!.bytes;
  }

  async abort(error: TensorwireError): Promise<void> {
    await this.#file?.abort(await this.#file.journal?.end(error));
  }
}

function digestOf(digests: TransferDigest | undefined, tensor: number): Uint8Array {
  const sha256 = digests?.tensorSha256(tensor);
  if (sha256) return sha256;
  const message = "an artifact of integrity sha256 takes the SHA-256 of its tensors with finish";
  throw new TensorwireError("INTERNAL", message);
}

/** A frame's length is 32 bits. */
function checkIndex(name: string, { plan, manifest }: SinkModel): void {
  if (indexBytes(plan, manifest.integrity ?? "xxh64") <= MAX_FRAME_BYTES) return;
  const message = `the index of ${plan.chunks} chunks does not fit into ${quote(name)}: take larger chunks (chunkBytes)`;
  throw new TensorwireError("LIMIT_EXCEEDED", message);
}

/** A checkpoint takes the file as it was when the last chunk was noted: of what is being written after that, nothing. */
class AppendingResumable implements Resumable {
  #appended: (() => AppendedSoFar) | undefined;

  constructor(
    private readonly journal: Journal,
    private readonly name: string,
    private readonly moment: () => () => AppendedSoFar,
  ) {
    journal.appended = () => this.#appended?.();
  }

  get held(): readonly Held[] {
    return this.journal.held;
  }

  get sameVersion(): boolean {
    return this.journal.sameVersion;
  }

  mix(): void {
    this.journal.mix();
  }

  /** What a checkpoint that begins now takes. */
  mark(): void {
    this.#appended = this.moment();
  }

  note(chunk: Chunk, digest: ChunkDigest): void {
    this.mark();
    this.journal.note(chunk, digest);
  }

  checkpoint(): Promise<void> {
    return this.journal.checkpoint();
  }

  async forget({ ordinal }: Chunk): Promise<void> {
    const message = `${quote(this.name)} has chunk ${ordinal} of this very version already: start again with resume: false (--no-resume)`;
    throw new TensorwireError("SOURCE_CHANGED", message);
  }
}

/** The same for every receiver, so that the file depends on the model alone. */
function helloFor({ manifest }: SinkModel): Hello {
  const { maxChunkBytes, maxManifestBytes } = DEFAULT_LIMITS;
  return {
    versions: [PROTOCOL_VERSION],
    software: "tensorwire",
    role: "send",
    codecs: [...new Set(manifest.tensors.map(({ codec }) => codec.name))],
    limits: { maxChunkBytes, maxManifestBytes },
  };
}

/** About what the file will take: chunks that fall back take more, packed ones less. */
export function estimate({ manifest, plan, bytes }: SinkModel, registry: CodecRegistry): number {
  const index = indexBytes(plan, manifest.integrity ?? "xxh64") + FOOTER_BYTES;
  let total =
    PREAMBLE.length + 3 * HEADER_BYTES + bytes.length + COUNT_BYTES + plan.chunks * RECORD_BYTES + index;
  const known = new Set(registry.names());
  manifest.tensors.forEach(({ codec, dtype }, i) => {
    const { first, count } = plan.range(i);
    if (count === 0 || !known.has(codec.name)) return;
    const payloadBytes = (elements: number): number =>
      registry.get(codec.name).payloadBytes(codec, dtype, elements);
    const whole = (count - 1) * payloadBytes(plan.chunk(first).elements);
    total += whole + payloadBytes(plan.chunk(first + count - 1).elements);
  });
  return total;
}
