import { basename } from "node:path";
import type { BufferPool, Chunk, Loan, ModelInfo } from "@tensorwire/core";
import { FileReader } from "./file-reader.js";
import type { ModelSource } from "./source.js";

/**
 * Any file, as its bytes: one U8 tensor with the file's base name.
 * @example
 * await streamModel(rawFileSource("weights.bin"), "weights.twire");
 */
export function rawFileSource(path: string): ModelSource {
  return new RawFileSource(path);
}

class RawFileSource implements ModelSource {
  #file: FileReader | undefined;

  constructor(readonly name: string) {}

  get version(): string | undefined {
    return this.#file?.version;
  }

  async open(): Promise<ModelInfo> {
    this.#file = await FileReader.open(this.name);
    const tensor = { name: basename(this.name), dtype: "U8", shape: [this.#file.size] } as const;
    return { kind: "raw", tensors: [tensor], metadata: new Map() };
  }

  read({ offset, bytes }: Chunk, pool: BufferPool): Loan | Promise<Loan> {
    return this.#file!.read(offset, bytes, pool);
  }

  async verify(): Promise<void> {
    await this.#file!.verify();
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}
