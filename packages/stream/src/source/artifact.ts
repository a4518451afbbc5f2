import {
  type BufferPool,
  type Chunk,
  type ChunkRange,
  type CodecBackend,
  type CodecRegistry,
  defaultCodecs,
  type Limits,
  type Loan,
  type Manifest,
  Packing,
  PortableBackend,
  quote,
  resolveLimits,
  sameSha256,
  segmentsOf,
  TensorwireError,
  type Totals,
  TransferDigest,
} from "@tensorwire/core";
import { specOf } from "../session/exact.js";
import { sha256Of } from "../session/sha256.js";
import { type ArtifactIndex, indexArtifact } from "./artifact-index.js";
import type { ByteRange, ByteReader } from "./byte-reader.js";
import { FileReader } from "./file-reader.js";
import type { EncodedRecord, EncodedSource } from "./source.js";

/** Where an artifact's bytes are, if not in a file. */
export interface ArtifactBytes {
  /** For messages: a URL, for example. */
  readonly name: string;
  /** Called once. Whoever opened it closes it. */
  open(): Promise<ByteReader>;
}

export interface ArtifactOptions {
  readonly limits?: Partial<Limits> | undefined;
  /** Codecs that the artifact may name. */
  readonly registry?: CodecRegistry | undefined;
  /** Unpacks payloads, and hashes them. Default: the portable one. */
  readonly backend?: Pick<CodecBackend, "hash" | "unpack"> | undefined;
  /** The folder, without links, that a file must lie in. Default: it lies anywhere. */
  readonly within?: string | undefined;
}

/** An artifact as a source, with what `inspect` shows of it. The getters speak once it is open. */
export interface ArtifactSource extends EncodedSource {
  /** Name and version of the software that wrote it. */
  readonly software: string;
  /** Digest, chunks, source bytes and clamped elements, as its END frame says. */
  readonly totals: Totals;
  /** What is known of the chunk at `ordinal` of its plan. */
  record(ordinal: number): IndexedRecord;
}

/** What the record tables say; a SHA-256 is of the payload alone, and known when that is read. */
type IndexedRecord = Required<Omit<EncodedRecord, "sha256">>;

/**
 * An encoded model as a file (`.twire`): the bytes of a one-way channel, from which chunks are read by position. Opening
 * it verifies everything but the payloads; each payload is verified when it is read.
 */
export function artifactSource(
  artifact: string | ArtifactBytes,
  options: ArtifactOptions = {},
): ArtifactSource {
  return new Artifact(typeof artifact === "string" ? file(artifact, options) : artifact, options);
}

function file(path: string, { within }: ArtifactOptions): ArtifactBytes {
  return { name: path, open: () => FileReader.open(path, undefined, within) };
}

class Artifact implements ArtifactSource {
  readonly name: string;
  #reader: ByteReader | undefined;
  #index: ArtifactIndex | undefined;
  /** With integrity `sha256`: of the payloads that were read, and how many from the first on. */
  #digest: TransferDigest | undefined;
  #read = 0;
  readonly #backend: Pick<CodecBackend, "hash" | "unpack">;

  constructor(
    private readonly artifact: ArtifactBytes,
    private readonly options: ArtifactOptions,
  ) {
    this.name = artifact.name;
    this.#backend = options.backend ?? new PortableBackend(options.registry);
  }

  get version(): string | undefined {
    return this.#reader?.version;
  }

  async open(): Promise<Manifest> {
    const { limits, registry = defaultCodecs } = this.options;
    this.#reader = await this.artifact.open();
    this.#index = await indexArtifact(this.#reader, resolveLimits(limits), registry);
    const { manifest, plan } = this.#index;
    const sha256 = sha256Of(manifest);
    this.#digest = sha256 && new TransferDigest(plan, sha256);
    return manifest;
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

  record(ordinal: number): IndexedRecord {
    const { codecs, hashes, ...index } = this.#opened;
    const [payloadBytes, packedBytes] = [index.payloadBytes[ordinal]!, index.packedBytes[ordinal]!];
    const packing = packedBytes < payloadBytes ? Packing.ZSTD : Packing.RAW;
    return { codec: codecs[ordinal]!, payloadBytes, packedBytes, packing, hash: hashes[ordinal]! };
  }

  want(runs: readonly ChunkRange[]): void {
    this.#reader!.expect?.(payloadRanges(this.#opened, runs));
  }

  async readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    const record = this.record(chunk.ordinal);
    const position = this.#opened.positions[chunk.ordinal]!;
    const loan = await this.#reader!.read(position, record.packedBytes, pool);
    let scratch: Loan | undefined;
    try {
      if (record.packing !== Packing.RAW) scratch = pool.lend(record.payloadBytes);
      const why = await this.#fault(chunk, record, loan.bytes, scratch?.bytes);
      if (why === undefined) return { record: this.#hashed(chunk, record, scratch ?? loan), loan };
      throw await this.#corrupt(chunk, position, why);
    } catch (error) {
      loan.release();
      throw error;
    } finally {
      scratch?.release();
    }
  }

  /** The record with all that the manifest's integrity asks for. */
  #hashed({ ordinal }: Chunk, record: IndexedRecord, { bytes }: Loan): EncodedRecord {
    const sha256 = sha256Of(this.#opened.manifest)?.(bytes);
    if (!sha256) return record;
    this.#digest!.add(ordinal, record.codec, record.hash, sha256);
    if (ordinal === this.#read) this.#read++;
    return { ...record, sha256 };
  }

  /**
   * Whether the payloads are those of the END frame's SHA-256, which opening it cannot tell: where all were read.
   * @throws TensorwireError `SOURCE_INVALID`.
   */
  async verify(): Promise<void> {
    const { bytes, manifest, plan, totals } = this.#opened;
    if (this.#read < plan.chunks) return;
    if (!this.#digest || sameSha256(this.#digest.sha256(bytes, manifest.tensors.length), totals.sha256))
      return;
    const message = `${quote(this.name)}: its payloads are not those that its SHA-256 is of: make the artifact again`;
    throw new TensorwireError("SOURCE_INVALID", message);
  }

  /** What is wrong with a payload. */
  async #fault(
    { tensor, elements }: Chunk,
    record: EncodedRecord,
    bytes: Uint8Array,
    payload: Uint8Array | undefined,
  ): Promise<string | undefined> {
    const { registry = defaultCodecs } = this.options;
    const { codec: spec, dtype } = this.#opened.manifest.tensors[tensor]!;
    const codec = registry.byId(record.codec);
    try {
      const hash = payload
        ? await this.#backend.unpack({
            packed: bytes,
            segments: segmentsOf(codec, specOf(codec, spec) ?? spec, dtype, elements, record.payloadBytes),
            payload,
          })
        : await this.#backend.hash(bytes);
      return hash === record.hash ? undefined : "the payload does not match its hash";
    } catch (error) {
      if (error instanceof TensorwireError && error.code === "PAYLOAD_INVALID") return error.message;
      throw error;
    }
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
    await this.#reader?.close();
  }
}

/** Where the chunks lie. Those that share a frame are one range. */
function payloadRanges(
  { positions, packedBytes }: ArtifactIndex,
  runs: readonly ChunkRange[],
): readonly ByteRange[] {
  const ranges: { position: number; bytes: number }[] = [];
  for (const { first, count } of runs) {
    for (let ordinal = first; ordinal < first + count; ordinal++) {
      const [position, bytes] = [positions[ordinal]!, packedBytes[ordinal]!];
      const last = ranges.at(-1);
      if (last && last.position + last.bytes === position) last.bytes += bytes;
      else ranges.push({ position, bytes });
    }
  }
  return ranges;
}
