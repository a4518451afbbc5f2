import { constants } from "node:buffer";
import {
  type Chunk,
  type ChunkRange,
  Glob,
  type Loan,
  quote,
  type TensorInfo,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";
import { ModelReader, type ReadingOptions } from "./fidelity/model-reader.js";
import { resolveOptions } from "./options.js";
import type { ReceivedChunk } from "./sink/chunks.js";
import type { ReceivedTensor } from "./sink/tensors.js";
import { type ArtifactBytes, artifactSource } from "./source/artifact.js";
import { type EncodedSource, isModelSource } from "./source/source.js";

/** How an artifact is read that goes nowhere. Its chunks are what they are. */
export type OpenArtifactOptions = Omit<ReadingOptions, "chunkBytes">;

/** An artifact of which any part can be read without the rest. */
export interface OpenArtifact {
  /** Of the file, for messages. */
  readonly name: string;
  /** In the order of the manifest. */
  readonly tensors: readonly TensorInfo[];
  /** The model's. */
  readonly metadata: ReadonlyMap<string, string>;
  /** A tensor, decoded. Memory is taken for it, and for one of its chunks. */
  readTensor(name: string): Promise<ReceivedTensor>;
  /**
   * Tensors, one after the other, each in memory of its own.
   * @param match Patterns of names, as in a policy; the order is the artifact's. Default: all.
   */
  readTensors(match?: string | readonly string[]): AsyncGenerator<ReceivedTensor, void>;
  /** The same chunk by chunk, each lent until the next step. */
  readChunks(match?: string | readonly string[]): AsyncGenerator<ReceivedChunk, void>;
  /** Waits for what is being read. Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens an artifact to read some of it: its index first, and then the bytes of those chunks that are asked for, each verified and
 * decoded. Calls may overlap; they are served one chunk at a time.
 * @param artifact A path, or where its bytes are otherwise, or an encoded source.
 * @throws TensorwireError `SOURCE_READ`, `SOURCE_INVALID` that says what is wrong and where.
 * @example
 * const artifact = await openArtifact("model.twire");
 * const { data } = await artifact.readTensor("lm_head.weight");
 * await artifact.close();
 */
export async function openArtifact(
  artifact: string | ArtifactBytes | EncodedSource,
  options: OpenArtifactOptions = {},
): Promise<OpenArtifact> {
  const { limits, registry, backend } = await resolveOptions(options);
  const source = isModelSource(artifact) ? artifact : artifactSource(artifact, { limits, registry, backend });
  return new ReadArtifact(await ModelReader.open(source, options));
}

class ReadArtifact implements OpenArtifact {
  readonly #byName: ReadonlyMap<string, number>;
  /** The reader has buffers for one chunk at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(private readonly reader: ModelReader) {
    this.#byName = new Map(reader.info.tensors.map(({ name }, i) => [name, i]));
  }

  get name(): string {
    return this.reader.name;
  }

  get tensors(): readonly TensorInfo[] {
    return this.reader.info.tensors;
  }

  get metadata(): ReadonlyMap<string, string> {
    return this.reader.info.metadata;
  }

  async readTensor(name: string): Promise<ReceivedTensor> {
    const tensor = this.#byName.get(name);
    if (tensor === undefined) throw this.#missing(`tensor called ${quote(name)}`);
    this.#announce([tensor]);
    return this.#tensor(tensor);
  }

  async *readTensors(match?: string | readonly string[]): AsyncGenerator<ReceivedTensor, void> {
    const found = this.#matching(match);
    this.#announce(found);
    for (const tensor of found) yield await this.#tensor(tensor);
  }

  async *readChunks(match?: string | readonly string[]): AsyncGenerator<ReceivedChunk, void> {
    const found = this.#matching(match);
    this.#announce(found);
    for (const tensor of found) {
      const { name, dtype, shape } = this.tensors[tensor]!;
      const range = this.reader.plan.range(tensor);
      for (const chunk of this.reader.plan.walk([range])) {
        const { first, elements, offset, index } = chunk;
        const loan = await this.#read(chunk);
        const last = index === range.count - 1;
        try {
          yield { name, dtype, shape, first, elements, offset, last, data: loan.bytes };
        } finally {
          loan.release();
        }
      }
    }
  }

  #matching(match: string | readonly string[] | undefined): number[] {
    const all = this.tensors.map((_, i) => i);
    if (match === undefined) return all;
    const globs = [match].flat().map((pattern) => new Glob(pattern));
    const found = all.filter((i) => globs.some((glob) => glob.matches(this.tensors[i]!.name)));
    if (found.length) return found;
    throw this.#missing(`tensor that matches ${[match].flat().map(quote).join(", ")}`);
  }

  #missing(what: string): TensorwireError {
    return new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} has no ${what}`);
  }

  #announce(tensors: readonly number[]): void {
    this.#refuseClosed();
    const runs: { first: number; count: number }[] = [];
    for (const { first, count } of tensors.map((i): ChunkRange => this.reader.plan.range(i))) {
      const before = runs.at(-1);
      if (before && before.first + before.count === first) before.count += count;
      else if (count > 0) runs.push({ first, count });
    }
    this.reader.want(runs);
  }

  async #tensor(tensor: number): Promise<ReceivedTensor> {
    const info = this.tensors[tensor]!;
    const { name, dtype, shape } = info;
    const data = allocate(info);
    for (const chunk of this.reader.plan.walk([this.reader.plan.range(tensor)])) {
      const loan = await this.#read(chunk);
      data.set(loan.bytes, chunk.offset);
      loan.release();
    }
    return { name, dtype, shape, data };
  }

  #refuseClosed(): void {
    if (this.#closing) throw new TensorwireError("INVALID_ARGUMENT", `${quote(this.name)} was closed`);
  }

  #read(chunk: Chunk): Promise<Loan> {
    this.#refuseClosed();
    const reading = this.#turn.then(() => this.reader.read(chunk));
    this.#turn = reading.catch(() => {});
    return reading;
  }

  close(): Promise<void> {
    this.#closing ??= this.#turn.then(() => this.reader.close());
    return this.#closing;
  }
}

function allocate(info: TensorInfo): Uint8Array {
  const bytes = tensorBytes(info);
  try {
    if (bytes <= constants.MAX_LENGTH) return new Uint8Array(bytes);
  } catch {
    // The same as one that is too long for any buffer.
  }
  const message = `${bytes} bytes are more than this runtime can hold in one buffer: read its chunks instead`;
  throw new TensorwireError("TENSOR_TOO_LARGE", message, { tensor: info.name });
}
