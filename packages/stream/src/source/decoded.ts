import {
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type CodecBackend,
  type CodecRegistry,
  type Loan,
  type Manifest,
  type ModelInfo,
  Packing,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import { specOf } from "../session/exact.js";
import { joinedToken } from "./file-version.js";
import type { EncodedSource, ModelSource, SourceMemory } from "./source.js";

/** An artifact's model, decoded. It is read in the artifact's own chunks, which a codec need not be able to divide. */
export interface DecodedArtifact extends ModelSource {
  /** Source bytes of a chunk: what the model must be planned with. Known once it is open. */
  readonly chunkBytes: number;
}

export function isDecodedArtifact(source: ModelSource | EncodedSource): source is DecodedArtifact {
  return source instanceof DecodedSource;
}

/** Decodes an encoded source chunk by chunk, to pack it again with other codecs or to unpack it. */
export function decodedArtifact(
  artifact: EncodedSource,
  settings: { readonly backend: CodecBackend; readonly registry: CodecRegistry },
): DecodedArtifact {
  return new DecodedSource(artifact, settings.backend, settings.registry);
}

class DecodedSource implements DecodedArtifact {
  readonly name: string;
  #manifest: Manifest | undefined;
  #plan: ChunkPlan | undefined;

  constructor(
    private readonly artifact: EncodedSource,
    private readonly backend: CodecBackend,
    private readonly registry: CodecRegistry,
  ) {
    this.name = artifact.name;
  }

  get chunkBytes(): number {
    if (this.#manifest) return this.#manifest.chunkBytes;
    throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} is not open`);
  }

  /** Not the artifact's own: what is made of decoded values need not be the payloads that it has, in the same codec. */
  get version(): string | undefined {
    const { version } = this.artifact;
    return version && joinedToken(version, "decoded");
  }

  get finite(): boolean | undefined {
    return this.artifact.finite;
  }

  /** What is read ahead, and what a chunk is decoded from. */
  memory(plan: ChunkPlan): SourceMemory {
    const { slabs, bytes } = this.artifact.memory?.(plan) ?? { slabs: 1, bytes: 0 };
    return { slabs: slabs + 1, bytes };
  }

  async open(): Promise<ModelInfo> {
    this.#manifest = await this.artifact.open();
    const { kind, tensors, metadata, header, chunkBytes } = this.#manifest;
    this.#plan = new ChunkPlan(tensors, chunkBytes);
    const infos = tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
    return { kind, tensors: infos, metadata, header };
  }

  want(runs: readonly ChunkRange[]): void {
    this.artifact.want?.(runs);
  }

  async read(chunk: Chunk, pool: BufferPool): Promise<Loan> {
    this.#checkChunk(chunk);
    const { codec, dtype } = this.#manifest!.tensors[chunk.tensor]!;
    const { record, loan: payload } = await this.artifact.readEncoded(chunk, pool);
    const packed = (record.packing ?? Packing.RAW) !== Packing.RAW;
    let unpacked: Loan | undefined;
    let target: Loan | undefined;
    try {
      const carrier = this.registry.byId(record.codec);
      // Also a chunk that its tensor's codec could not carry.
      if (carrier.name === "none" && !packed) return payload;
      if (packed) unpacked = pool.lend(record.payloadBytes);
      target = pool.lend(chunk.bytes);
      await this.backend.decode({
        codec: specOf(carrier, codec) ?? codec,
        dtype,
        elements: chunk.elements,
        payload: payload.bytes,
        unpacked: unpacked?.bytes,
        hash: record.hash,
        output: dtype,
        target: target.bytes,
      });
    } catch (error) {
      target?.release();
      payload.release();
      throw error;
    } finally {
      unpacked?.release();
    }
    payload.release();
    return target;
  }

  #checkChunk({ ordinal, tensor, first, elements }: Chunk): void {
    const plan = this.#plan!;
    const own = ordinal < plan.chunks ? plan.chunk(ordinal) : undefined;
    if (own?.tensor === tensor && own.first === first && own.elements === elements) return;
    throw new TensorwireError(
      "INVALID_ARGUMENT",
      `${quote(this.name)} is read in its own chunks of ${this.chunkBytes} bytes, and in no others`,
    );
  }

  async verify(): Promise<void> {
    await this.artifact.verify?.();
  }

  async close(): Promise<void> {
    await this.artifact.close();
  }
}
