import {
  type BufferPool,
  type Chunk,
  type Loan,
  type ModelInfo,
  parseSafetensorsHeader,
  SAFETENSORS_PREFIX_BYTES,
  type SafetensorsHeader,
  type SafetensorsLimits,
  safetensorsHeaderLength,
} from "@tensorwire/core";
import { inFile } from "./file-fault.js";
import { FileReader } from "./file-reader.js";
import type { ModelSource } from "./source.js";

/** What the sources of files take. */
export interface FileSourceOptions {
  /** What a file may announce. Default: core's. */
  readonly limits?: SafetensorsLimits | undefined;
  /** The folder, without links, that files must lie in: a link that leads out of it is refused. Default: they lie anywhere. */
  readonly within?: string | undefined;
}

/**
 * A safetensors file. Its tensors travel in the order of their data, and its header as it stands, so that a sink of the
 * same format writes the same file.
 * @example
 * await streamModel(safetensorsSource("model.safetensors"), destination, { codec: "blockwise8" });
 */
export function safetensorsSource(path: string, options: FileSourceOptions = {}): ModelSource {
  return new SafetensorsSource(path, options);
}

class SafetensorsSource implements ModelSource {
  #file: FileReader | undefined;
  /** Where each tensor begins in the file. */
  #begins = new Float64Array(0);

  constructor(
    readonly name: string,
    private readonly options: FileSourceOptions,
  ) {}

  get version(): string | undefined {
    return this.#file?.version;
  }

  async open(): Promise<ModelInfo> {
    this.#file = await FileReader.open(this.name, undefined, this.options.within);
    const { tensors, metadata, text, headerBytes } = await readSafetensorsHeader(this.#file, this.options);
    const data = SAFETENSORS_PREFIX_BYTES + headerBytes;
    this.#begins = Float64Array.from(tensors, ({ begin }) => data + begin);
    return {
      kind: "model",
      tensors: tensors.map(({ info }) => info),
      metadata: metadata ?? new Map(),
      header: { format: "safetensors", text },
    };
  }

  read({ tensor, offset, bytes }: Chunk, pool: BufferPool): Loan | Promise<Loan> {
    return this.#file!.read(this.#begins[tensor]! + offset, bytes, pool);
  }

  async verify(): Promise<void> {
    await this.#file!.verify();
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}

/** Reads and validates the header of an open file. @throws TensorwireError `SOURCE_INVALID`, `LIMIT_EXCEEDED`, `SOURCE_READ`. */
export async function readSafetensorsHeader(
  file: FileReader,
  { limits }: FileSourceOptions,
): Promise<SafetensorsHeader> {
  const prefix = new Uint8Array(Math.min(SAFETENSORS_PREFIX_BYTES, file.size));
  await file.readInto(0, prefix);
  const length = within(file, () => safetensorsHeaderLength(prefix, file.size));
  const header = new Uint8Array(length);
  await file.readInto(SAFETENSORS_PREFIX_BYTES, header);
  return within(file, () => parseSafetensorsHeader(header, file.size, limits));
}

function within<T>(file: FileReader, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw inFile(error, file.name);
  }
}
