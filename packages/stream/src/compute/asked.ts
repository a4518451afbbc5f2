import {
  type Answer,
  type BufferPool,
  type Chunk,
  type ChunkPlan,
  type ChunkRange,
  type Hello,
  type Loan,
  type Manifest,
  type ModelInfo,
  quote,
  TensorwireError,
} from "@tensorwire/core";
import {
  type EncodedRecord,
  type EncodedSource,
  isEncodedSource,
  type ModelSource,
  type SourceMemory,
} from "../source/source.js";
import { select } from "./select.js";

/** A source that is open, and what it has said. */
export interface OpenModel {
  readonly source: ModelSource | EncodedSource;
  readonly model: ModelInfo | Manifest;
}

/**
 * What a peer gets of an open source that asks for some of its tensors. The source stays its owner's, to be closed.
 * @throws TensorwireError `INVALID_ARGUMENT` for a pattern that matches nothing, and for a raw file.
 */
export async function askedOf({ source, model }: OpenModel, patterns: readonly string[]): Promise<OpenModel> {
  const open = isEncodedSource(source)
    ? new OpenArtifact(source, model as Manifest)
    : new OpenSource(source, model);
  const selection: ModelSource | EncodedSource = select(open as ModelSource | EncodedSource, patterns);
  return { source: selection, model: await selection.open() };
}

/** @throws TensorwireError `SOURCE_MISMATCH` where a peer asks for other tensors than the one before it. */
export function checkAskedAlike(asked: Hello["tensors"], hello: Hello | undefined): void {
  if (JSON.stringify(asked) === JSON.stringify(hello?.tensors)) return;
  const who = hello ? ` (${quote(hello.software)})` : "";
  const message = `the peer${who} asks for other tensors than the one before it, with whom this transfer began: begin another one for it`;
  throw new TensorwireError("SOURCE_MISMATCH", message);
}

/** A peer is told of patterns and names, and not of what its source is called here. */
const NAME = "the model";

class OpenSource implements ModelSource {
  readonly name = NAME;

  constructor(
    private readonly source: ModelSource,
    private readonly info: ModelInfo,
  ) {}

  get version(): string | undefined {
    return this.source.version;
  }

  get oneShot(): boolean | undefined {
    return this.source.oneShot;
  }

  get chunkBytes(): number | undefined {
    return this.source.chunkBytes;
  }

  get finite(): boolean | undefined {
    return this.source.finite;
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.source.memory?.(plan) ?? { slabs: 1, bytes: 0 };
  }

  async open(): Promise<ModelInfo> {
    return this.info;
  }

  want(runs: readonly ChunkRange[]): void {
    this.source.want?.(runs);
  }

  read(chunk: Chunk, pool: BufferPool): Answer<Loan> {
    return this.source.read(chunk, pool);
  }

  async verify(): Promise<void> {
    await this.source.verify?.();
  }

  async close(): Promise<void> {}
}

class OpenArtifact implements EncodedSource {
  readonly name = NAME;

  constructor(
    private readonly source: EncodedSource,
    private readonly manifest: Manifest,
  ) {}

  get version(): string | undefined {
    return this.source.version;
  }

  get clamped(): number | undefined {
    return this.source.clamped;
  }

  get finite(): boolean | undefined {
    return this.source.finite;
  }

  memory(plan: ChunkPlan): SourceMemory {
    return this.source.memory?.(plan) ?? { slabs: 1, bytes: 0 };
  }

  async open(): Promise<Manifest> {
    return this.manifest;
  }

  want(runs: readonly ChunkRange[]): void {
    this.source.want?.(runs);
  }

  readEncoded(chunk: Chunk, pool: BufferPool): Promise<{ record: EncodedRecord; loan: Loan }> {
    return this.source.readEncoded(chunk, pool);
  }

  async verify(): Promise<void> {
    await this.source.verify?.();
  }

  async close(): Promise<void> {}
}
