import {
  type BufferPool,
  type Chunk,
  type CodecRegistry,
  defaultCodecs,
  type Limits,
  type Loan,
  type Manifest,
  quote,
  resolveLimits,
  TensorwireError,
  type Totals,
  xxh64,
} from "@tensorwire/core";
import { type ArtifactIndex, indexArtifact } from "./artifact-index.js";
import { FileReader } from "./file-reader.js";
import type { EncodedRecord, EncodedSource } from "./source.js";

export interface ArtifactOptions {
  readonly limits?: Partial<Limits> | undefined;
  /** Codecs that the artifact may name. */
  readonly registry?: CodecRegistry | undefined;
  /** xxh64 of a payload; a backend's keeps it off the event loop. Default: core's. */
  readonly hash?: ((bytes: Uint8Array) => bigint | Promise<bigint>) | undefined;
}

/** An artifact as a source, with what `inspect` shows of it. The getters speak once it is open. */
export interface ArtifactSource extends EncodedSource {
  /** Name and version of the software that wrote it. */
  readonly software: string;
  /** Digest, chunks, source bytes and clamped elements, as its END frame says. */
  readonly totals: Totals;
  /** What is known of the chunk at `ordinal` of its plan. */
  record(ordinal: number): EncodedRecord;
}

/**
 * An encoded model as a file (`.twire`): the bytes of a one-way channel, from which chunks are read by position. Opening
 * it verifies everything but the payloads; each payload is verified when it is read.
 */
export function artifactSource(path: string, options: ArtifactOptions = {}): ArtifactSource {
  return new ArtifactFile(path, options);
}

class ArtifactFile implements ArtifactSource {
  #file: FileReader | undefined;
  #index: ArtifactIndex | undefined;

  constructor(
    readonly name: string,
    private readonly options: ArtifactOptions,
  ) {}

  async open(): Promise<Manifest> {
    const { limits, registry = defaultCodecs } = this.options;
    this.#file = await FileReader.open(this.name);
    this.#index = await indexArtifact(this.#file, resolveLimits(limits), registry);
    return this.#index.manifest;
  }

  get #opened(): ArtifactIndex {
    if (this.#index) return this.#index;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} is not open`);
  }

  get clamped(): number {
    return this.totals.clamped;
  }

  get software(): string {
    return this.#opened.hello.software;
  }

  get totals(): Totals {
    return this.#opened.totals;
  }

  record(ordinal: number): EncodedRecord {
    const { codecs, payloadBytes, hashes } = this.#opened;
    return { codec: codecs[ordinal]!, payloadBytes: payloadBytes[ordinal]!, hash: hashes[ordinal]! };
  }

  async readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    const record = this.record(chunk.ordinal);
    const position = this.#opened.positions[chunk.ordinal]!;
    const loan = await this.#file!.read(position, record.payloadBytes, pool);
    try {
      const { hash = xxh64 } = this.options;
      if ((await hash(loan.bytes)) === record.hash) return { record, loan };
      throw await this.#corrupt(chunk, position);
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async #corrupt({ tensor, index }: Chunk, position: number): Promise<TensorwireError> {
    // A file that was written to since it was opened is another fault than one that was always wrong.
    await this.#file!.verify();
    return new TensorwireError(
      "SOURCE_INVALID",
      `${quote(this.name)}, byte ${position}: the payload does not match its hash: make the artifact again`,
      { tensor: this.#opened.manifest.tensors[tensor]!.name, chunk: index },
    );
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}
