import { dirname, join } from "node:path";
import {
  type BufferPool,
  type Chunk,
  checkLimit,
  type Loan,
  type ModelInfo,
  parseShardIndex,
  quote,
  resolveLimits,
  SAFETENSORS_PREFIX_BYTES,
  type ShardIndex,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { inFile } from "./file-fault.js";
import { FileSet } from "./file-set.js";
import { type FileSourceOptions, readSafetensorsHeader } from "./safetensors.js";
import type { ModelSource } from "./source.js";
import { readTextFile } from "./text-file.js";

/**
 * A safetensors model in shards, by its `*.index.json`. Tensors travel shard by shard, in the order of their data. Index
 * and shards must agree on every tensor.
 * @example
 * await transferModel("model.safetensors", "sharded.safetensors", { maxShardBytes: 100_000 });
 * await transferModel(shardedSafetensorsSource("sharded.safetensors.index.json"), "joined.safetensors");
 */
export function shardedSafetensorsSource(indexPath: string, options: FileSourceOptions = {}): ModelSource {
  return new ShardedSource(indexPath, options);
}

class ShardedSource implements ModelSource {
  readonly #files: FileSet;
  readonly #infos: TensorInfo[] = [];
  readonly #metadata = new Map<string, string>();
  /** File of each tensor, and where in it the tensor begins. */
  readonly #shards: number[] = [];
  readonly #begins: number[] = [];

  constructor(
    readonly name: string,
    private readonly options: FileSourceOptions,
  ) {
    this.#files = new FileSet(options.within);
  }

  get version(): string | undefined {
    return this.#files.version;
  }

  async open(): Promise<ModelInfo> {
    const { text, version } = await readTextFile(this.name, this.options.within);
    const index = this.#parse(text);
    const found = new Map<string, string>();
    for (const [shard, file] of index.files.entries()) await this.#addShard(index, shard, file, found);
    this.#files.watch(this.name, version);
    for (const [tensor, file] of index.weightMap) {
      if (!found.has(tensor))
        throw this.#mismatch(tensor, `the index puts it in ${quote(file)}, which lacks it`);
    }
    // Where the shards disagree, the first one's word stands: in practice it is `format` alone, the same in all.
    return { kind: "model", tensors: this.#infos, metadata: this.#metadata };
  }

  #parse(text: string): ShardIndex {
    try {
      return parseShardIndex(text);
    } catch (error) {
      throw inFile(error, this.name);
    }
  }

  async #addShard(index: ShardIndex, shard: number, file: string, found: Map<string, string>): Promise<void> {
    const reader = await this.#files.add(join(dirname(this.name), file));
    const { tensors, metadata, headerBytes } = await readSafetensorsHeader(reader, this.options);
    for (const { info, begin } of tensors) {
      const other = found.get(info.name);
      if (other !== undefined) {
        throw this.#mismatch(info.name, `stands in two shards, ${quote(other)} and ${quote(file)}`);
      }
      const named = index.weightMap.get(info.name);
      if (named === undefined)
        throw this.#mismatch(info.name, `stands in ${quote(file)}, but not in the index`);
      if (named !== file) {
        throw this.#mismatch(info.name, `stands in ${quote(file)}, but the index puts it in ${quote(named)}`);
      }
      found.set(info.name, file);
      this.#infos.push(info);
      this.#shards.push(shard);
      this.#begins.push(SAFETENSORS_PREFIX_BYTES + headerBytes + begin);
    }
    checkLimit(resolveLimits(this.options.limits), "maxTensors", found.size, "the number of tensors");
    for (const [key, value] of metadata ?? []) {
      if (!this.#metadata.has(key)) this.#metadata.set(key, value);
    }
  }

  #mismatch(tensor: string, message: string): TensorwireError {
    return new TensorwireError("SOURCE_INVALID", `${quote(this.name)}: ${message}`, { tensor });
  }

  read({ tensor, offset, bytes }: Chunk, pool: BufferPool): Loan | Promise<Loan> {
    return this.#files.read(this.#shards[tensor]!, this.#begins[tensor]! + offset, bytes, pool);
  }

  async verify(): Promise<void> {
    await this.#files.verify();
  }

  async close(): Promise<void> {
    await this.#files.close();
  }
}
