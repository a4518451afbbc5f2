import {
  BATCH_BYTES,
  type Chunk,
  type ChunkDigest,
  type ChunkPlan,
  type ChunkRecord,
  COUNT_BYTES,
  type CodecRegistry,
  DEFAULT_LIMITS,
  defaultCodecs,
  encodeDataHead,
  encodeFrame,
  encodeJson,
  encodeTotals,
  FrameType,
  HEADER_BYTES,
  type Held,
  type Hello,
  PREAMBLE,
  PROTOCOL_VERSION,
  quote,
  RECORD_BYTES,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { journalHead } from "../journal/head.js";
import type { AppendedSoFar, Journal } from "../journal/journal.js";
import { FrameBatch } from "./frame-batch.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import type { EncodedSink, Resumable, SinkModel } from "./sink.js";

export interface ArtifactOptions extends TargetOptions {
  /** Codecs by which the size is estimated before any data. Default: all of this library. */
  readonly registry?: CodecRegistry | undefined;
}

// A file holds one transfer.
const TRANSFER = 1;

/**
 * Keeps a model encoded, as it travelled: the file is what a channel without a way back would carry. The same chunks give
 * the same file, whenever they come.
 */
export function artifactSink(path: string, options: ArtifactOptions = {}): EncodedSink {
  return new ArtifactSink(path, options);
}

class ArtifactSink implements EncodedSink {
  readonly #batch = new FrameBatch(TRANSFER);
  #file: PartFile | undefined;
  #position = 0;
  #plan: ChunkPlan | undefined;
  resumable: Resumable | undefined;

  constructor(
    readonly name: string,
    private readonly options: ArtifactOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    const { manifest, dtypes, bytes } = model;
    if (manifest.tensors.some(({ dtype }, i) => dtype !== dtypes[i])) {
      const message = `${quote(this.name)} keeps the model as it travelled, dtypes and all: leave out outputDtype`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const { registry = defaultCodecs, resume = true, ...options } = this.options;
    const hello = encodeFrame(FrameType.HELLO, 0, 0, encodeJson(helloFor(model)));
    const topic = resume ? journalHead(model, ["artifact", hello]) : undefined;
    const file = await PartFile.open(this.name, {
      ...options,
      expectedBytes: estimate(model, registry),
      topic,
    });
    this.#file = file;
    this.#plan = model.plan;
    if (file.journal && (await this.#goOn(file, file.journal))) return;
    await file.truncate(0);
    await this.#append([PREAMBLE, hello, encodeFrame(FrameType.MANIFEST, TRANSFER, 0, bytes)]);
  }

  /** Where an earlier attempt got to. A file that only grows cannot take other chunks in the place of those it has. */
  async #goOn(file: PartFile, journal: Journal): Promise<boolean> {
    this.resumable = new AppendingResumable(journal, this.name, () => {
      const [position, moment] = [this.#position, this.#batch.moment()];
      return () => ({ bytes: position, tail: this.#batch.frameAt(moment) });
    });
    const known = journal.known.get(file.name);
    if (!known) return false;
    const [run, ...others] = journal.held;
    if (!journal.sameVersion || run?.first !== 0 || others.length) {
      await journal.restart();
      return false;
    }
    await file.truncate(known.size);
    this.#position = known.size;
    this.#batch.restore(journal.tail);
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
    await this.#append([encodeDataHead(TRANSFER, [record]), payload]);
  }

  #flush(): Promise<void> {
    return this.#append(this.#batch.take());
  }

  async #append(parts: readonly Uint8Array[]): Promise<void> {
    const position = this.#position;
    for (const { length } of parts) this.#position += length;
    await this.#file!.write(parts, position);
  }

  async finish({ digest, sha256, clamped }: Totals): Promise<void> {
    await this.#flush();
    // Those of the last connection may be fewer.
    const { chunks, bytes: sourceBytes } = this.#plan!;
    const totals = { digest, sha256, chunks, sourceBytes, clamped };
    await this.#append([encodeFrame(FrameType.END, TRANSFER, 0, encodeTotals(totals))]);
    await this.#file!.finish();
  }

  async abort(error: TensorwireError): Promise<void> {
    await this.#file?.abort(await this.#file.journal?.end(error));
  }
}

/** A checkpoint takes the file as it was when the last chunk was noted: of what is being written after that, nothing. */
class AppendingResumable implements Resumable {
  #appended: (() => AppendedSoFar) | undefined;

  constructor(
    private readonly journal: Journal,
    private readonly name: string,
    private readonly mark: () => () => AppendedSoFar,
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

  note(chunk: Chunk, digest: ChunkDigest): void {
    this.#appended = this.mark();
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
  let total = PREAMBLE.length + 2 * HEADER_BYTES + bytes.length + COUNT_BYTES + plan.chunks * RECORD_BYTES;
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
