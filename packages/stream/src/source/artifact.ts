import {
  type BufferPool,
  type Chunk,
  type ChunkIndex,
  type ChunkPlan,
  type ChunkRange,
  type Loan,
  type Manifest,
  Packing,
  quote,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import { tensorsMake } from "../artifact/checks.js";
import type { ArtifactIndex } from "../artifact/contents.js";
import { sha256Of } from "../session/sha256.js";
import type { ByteRange, ByteReader } from "./byte-reader.js";
import { FileReader } from "./file-reader.js";
import { type ArtifactTerms, OpenedArtifact } from "./opened-artifact.js";
import type { ArtifactHold, ReadPayload, SharedArtifacts } from "./shared-artifacts.js";
import type { EncodedRecord, EncodedSource, SourceMemory } from "./source.js";

/** Where an artifact's bytes are, if not in a file. */
export interface ArtifactBytes {
  /** For messages: a URL, for example. */
  readonly name: string;
  /** Called once. Whoever opened it closes it. */
  open(): Promise<ByteReader>;
}

export interface ArtifactOptions extends ArtifactTerms {
  /** The folder, without links, that a file must lie in. Default: it lies anywhere. */
  readonly within?: string | undefined;
}

/** An artifact as a source, with what `inspect` shows of it. The getters speak once it is open. */
export interface ArtifactSource extends EncodedSource {
  /** Name and version of the software that wrote it. */
  readonly software: string;
  /** Digest, chunks, source bytes and clamped elements, as its END frame says. */
  readonly totals: Totals;
  /** Whether the file has an index: else its frames were gone through. */
  readonly indexed: boolean;
  /** What is known of the chunk at `ordinal` of its plan. */
  record(ordinal: number): IndexedRecord;
}

/** What is known of a chunk before it is read; a SHA-256 is of the payload alone, and known when that is read. */
type IndexedRecord = Required<Omit<EncodedRecord, "sha256">>;

/**
 * An encoded model as a file (`.twire`), or somewhere else, from which chunks are read by position. Opening it reads what it
 * begins and ends with, and verifies everything but the payloads; each payload is verified when it is read.
 * @example
 * await transferModel(artifactSource("model.twire"), "unpacked.safetensors");
 */
export function artifactSource(
  artifact: string | ArtifactBytes,
  options: ArtifactOptions = {},
): ArtifactSource {
  return new Artifact(typeof artifact === "string" ? file(artifact, options) : artifact, options);
}

/** The artifact at a path, for one of many readers that may have it at once. */
export function sharedArtifactSource(
  path: string,
  options: ArtifactOptions,
  shared: SharedArtifacts,
): ArtifactSource {
  return new Artifact(file(path, options), options, shared);
}

function file(path: string, { within }: ArtifactOptions): ArtifactBytes {
  return { name: path, open: () => FileReader.open(path, undefined, within) };
}

class Artifact implements ArtifactSource {
  readonly name: string;
  #reader: ByteReader | undefined;
  #hold: ArtifactHold | undefined;
  #artifact: OpenedArtifact | undefined;
  /** What was asked of the reader last, whoever waits for it. */
  #busy: Promise<unknown> | undefined;

  constructor(
    private readonly artifact: ArtifactBytes,
    private readonly options: ArtifactOptions,
    private readonly shared?: SharedArtifacts | undefined,
  ) {
    this.name = artifact.name;
  }

  get version(): string | undefined {
    return this.#reader?.version;
  }

  async open(): Promise<Manifest> {
    const reader = await this.artifact.open();
    this.#reader = reader;
    this.#hold = this.shared?.join(this.name, reader.version);
    const look = (): Promise<OpenedArtifact> => this.#working(OpenedArtifact.open(reader, this.options));
    this.#artifact = await (this.#hold ? this.#hold.opened(look) : look());
    return this.#artifact.index.manifest;
  }

  #working<T>(work: Promise<T>): Promise<T> {
    this.#busy = work.catch(() => {});
    return work;
  }

  memory(plan: ChunkPlan): SourceMemory {
    const { memory } = this.#known;
    const hold = this.#hold;
    if (hold) return memory.among((slabs) => hold.reserve(slabs));
    const { readAheadBytes } = this.#reader!;
    return readAheadBytes === undefined ? memory.alone() : memory.ahead(plan, readAheadBytes);
  }

  get #known(): OpenedArtifact {
    if (this.#artifact) return this.#artifact;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} is not open`);
  }

  get #opened(): ArtifactIndex {
    return this.#known.index;
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

  get indexed(): boolean {
    return this.#opened.indexed;
  }

  record(ordinal: number): IndexedRecord {
    const { position: _, ...record } = this.#opened.chunks.entry(ordinal);
    return record;
  }

  want(runs: readonly ChunkRange[]): void {
    this.#reader?.expect?.(payloadRanges(this.#opened.chunks, runs));
  }

  async readEncoded(chunk: Chunk, pool: BufferPool): Promise<ReadPayload> {
    const artifact = this.#known;
    if (!this.#hold || !artifact.memory.isShared(chunk.ordinal)) return this.#read(chunk, pool, pool);
    const read = (slabs: BufferPool): Promise<ReadPayload> => this.#working(this.#read(chunk, slabs, pool));
    return this.#hold.take(artifact, chunk.ordinal, read);
  }

  /** @param unpacking Lends room to verify what is packed. */
  async #read(chunk: Chunk, pool: BufferPool, unpacking: BufferPool): Promise<ReadPayload> {
    const { index, check } = this.#known;
    const { position, ...record } = index.chunks.entry(chunk.ordinal);
    const loan = await this.#reader!.read(position, record.packedBytes, pool);
    let scratch: Loan | undefined;
    try {
      if (record.packing !== Packing.RAW) scratch = unpacking.lend(record.payloadBytes);
      const why = await check.fault(chunk, record, loan.bytes, scratch?.bytes);
      if (why !== undefined) throw await this.#corrupt(chunk, position, why);
      return { record: this.#hashed(chunk, record, scratch ?? loan), loan };
    } catch (error) {
      loan.release();
      throw error;
    } finally {
      scratch?.release();
    }
  }

  /** The record with all that the manifest's integrity asks for. */
  #hashed(chunk: Chunk, record: IndexedRecord, { bytes }: Loan): EncodedRecord {
    const { index, digests } = this.#known;
    const { manifest } = index;
    const sha256 = sha256Of(manifest)?.(bytes);
    if (!sha256) return record;
    if (!digests!.add(chunk, record.codec, sha256)) {
      throw new TensorwireError("SOURCE_INVALID", this.#otherPayloads(), {
        tensor: manifest.tensors[chunk.tensor]!.name,
      });
    }
    return { ...record, sha256 };
  }

  #otherPayloads(): string {
    return `${quote(this.name)}: its payloads are not those that its SHA-256 is of: make the artifact again`;
  }

  /**
   * Whether the payloads are those of the END frame's SHA-256, where all were read and no index had it by tensor.
   * @throws TensorwireError `SOURCE_INVALID`.
   */
  async verify(): Promise<void> {
    if (this.#reader?.unvouched) await this.#reader.verify();
    const { index, digests } = this.#known;
    const { manifest, totals, indexed } = index;
    if (!digests || indexed || manifest.tensors.some((_, i) => !digests.of(i))) return;
    if (tensorsMake(totals.sha256, index, (i) => digests.of(i)!)) return;
    throw new TensorwireError("SOURCE_INVALID", this.#otherPayloads());
  }

  async #corrupt({ tensor, index }: Chunk, position: number, why: string): Promise<TensorwireError> {
    // A file that was written to since it was opened is another fault than one that was always wrong.
    await this.#reader!.verify();
    return new TensorwireError(
      "SOURCE_INVALID",
      `${quote(this.name)}, byte ${position}: ${why}: make the artifact again`,
      { tensor: this.#opened.manifest.tensors[tensor]!.name, chunk: index },
    );
  }

  async close(): Promise<void> {
    // What it has begun to read others may wait for.
    if (this.#hold) await this.#busy;
    this.#hold?.leave();
    await this.#reader?.close();
  }
}

/** Where the chunks lie: told one by one, since there may be millions. */
function* payloadRanges(chunks: ChunkIndex, runs: readonly ChunkRange[]): Generator<ByteRange> {
  for (const { first, count } of runs) {
    for (let ordinal = first; ordinal < first + count; ordinal++) {
      yield { position: chunks.position(ordinal), bytes: chunks.packedBytes(ordinal) };
    }
  }
}
