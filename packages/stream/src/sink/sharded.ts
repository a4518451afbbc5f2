import { mkdir, rmdir, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  byteLength,
  type Chunk,
  type DType,
  planShards,
  quote,
  serializeSafetensorsHeader,
  serializeShardIndex,
  shardFileName,
  type TensorInfo,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";
import { journalHead } from "../journal/head.js";
import type { Journal } from "../journal/journal.js";
import { openKnown, PART_SUFFIX, removeParts, takeBackNames } from "../journal/leftover.js";
import { AdjoiningWrites } from "./adjoining-writes.js";
import { refuseTaken } from "./destination.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import { metadataOf, refuseRaw } from "./safetensors.js";
import type { ModelSink, Resumable, SinkModel } from "./sink.js";
import { isErrno, targetError } from "./target-error.js";

export interface ShardedOptions extends TargetOptions {
  /** Bytes of tensors that a shard may hold; a larger tensor has a shard to itself. */
  readonly maxShardBytes: number;
}

/** A shard as planned. */
interface Shard {
  readonly file: string;
  readonly infos: readonly TensorInfo[];
  readonly bytes: number;
}

const INDEX = ".safetensors.index.json";
const SINGLE = ".safetensors";

/**
 * Writes `STEM-00001-of-0000N.safetensors` and, last, `STEM.safetensors.index.json`. Shards are written one after the other
 * and get their names together, once all are complete.
 *
 * @param path A folder (`dir/`, where the stem is `model`), `STEM.safetensors.index.json` or `STEM.safetensors`.
 * @example
 * await transferModel("model.safetensors", shardedSafetensorsSink("parts/", { maxShardBytes: 100_000 }));
 */
export function shardedSafetensorsSink(path: string, options: ShardedOptions): ModelSink {
  return new ShardedSink(path, options);
}

class ShardedSink implements ModelSink {
  readonly parallel = true;
  readonly #writes = new AdjoiningWrites();
  #folder = "";
  #made = false;
  #index: PartFile | undefined;
  #metadata: ReadonlyMap<string, string> | undefined;
  #dtypes: readonly DType[] = [];
  #shards: readonly Shard[] = [];
  /** For each tensor its shard, and where in that file it begins. */
  #shardOf: number[] = [];
  #begins: number[] = [];
  /** Shards that were begun, in order. */
  readonly #parts: PartFile[] = [];
  /** The one that is being written. */
  #current = -1;
  /** The shard that the last chunk asked for, and the promise of its file. */
  #asked = -1;
  #turn: Promise<void> = Promise.resolve();
  #completing: Promise<void> = Promise.resolve();
  #aborted = false;

  constructor(
    readonly name: string,
    private readonly options: ShardedOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    refuseRaw(this.name, model);
    const { overwrite = false, resume = true, parts } = this.options;
    const { folder, stem } = await this.#place();
    this.#plan(model, stem);
    this.#folder = folder;
    const expectedBytes = this.#shards.reduce((sum, { bytes }) => sum + bytes, 0);
    const topic = resume ? journalHead(model, this.#layout(stem)) : undefined;
    // Its lock stands for all of them, and so does its journal.
    const index = join(folder, `${stem}${INDEX}`);
    this.#index = await PartFile.open(index, { overwrite, expectedBytes, topic, parts });
    const { journal } = this.#index;
    try {
      if (journal) await this.#goOn(journal);
      for (const { file } of this.#shards) await refuseTaken(join(folder, file), overwrite);
      await this.#ask(0);
    } catch (error) {
      // What an earlier attempt left is not to be lost by one that could not begin.
      await this.#end((await journal?.close()) ?? false);
      throw error;
    }
  }

  /** The sizes of shards that are part of the model, and what each begins with. */
  *#layout(stem: string): Generator<string | Uint8Array> {
    yield "sharded safetensors";
    yield stem;
    for (const { file, infos } of this.#shards) {
      yield file;
      yield serializeSafetensorsHeader(infos, this.#metadata).bytes;
    }
  }

  /** Makes sure that all files that hold chunks are there; else none of them is gone on with. */
  async #goOn(journal: Journal): Promise<void> {
    journal.settle = () => this.#writes.settle();
    const { known } = journal;
    await takeBackNames(this.#folder, known);
    for (const [name, file] of known) {
      const part = await openKnown(join(this.#folder, `${name}${PART_SUFFIX}`), file);
      await part?.handle.close();
      if (part) continue;
      await journal.restart();
      const shards = [...known].filter(([other]) => other !== this.#index!.name);
      return removeParts(this.#folder, new Map(shards));
    }
  }

  async #place(): Promise<{ folder: string; stem: string }> {
    const path = this.name;
    const found = await stat(path).catch(() => undefined);
    if (path.endsWith("/") || found?.isDirectory()) {
      if (!found) await this.#makeFolder(path);
      return { folder: path, stem: "model" };
    }
    const suffix = [INDEX, SINGLE].find((end) => path.endsWith(end) && basename(path) !== end);
    if (suffix) return { folder: dirname(path), stem: basename(path, suffix) };
    const message = `${quote(path)} names no sharded model: give a folder (ending in /), NAME${SINGLE} or NAME${INDEX}`;
    throw new TensorwireError("INVALID_ARGUMENT", message);
  }

  async #makeFolder(path: string): Promise<void> {
    try {
      await mkdir(path);
      this.#made = true;
    } catch (cause) {
      if (!isErrno(cause, "EEXIST")) throw targetError(cause, path);
    }
  }

  #plan({ manifest, dtypes }: SinkModel, stem: string): void {
    const infos = manifest.tensors.map(({ name, shape }, i) => ({ name, dtype: dtypes[i]!, shape }));
    const runs = planShards(infos, this.options.maxShardBytes);
    // A model without tensors still has metadata.
    if (!runs.length) runs.push([]);
    this.#dtypes = dtypes;
    this.#metadata = metadataOf(manifest.metadata);
    this.#shards = runs.map((run, i) => {
      const { bytes, offsets, dataBytes } = serializeSafetensorsHeader(run, this.#metadata);
      for (const { begin } of offsets) {
        this.#shardOf.push(i);
        this.#begins.push(bytes.length + begin);
      }
      return { file: shardFileName(stem, i, runs.length), infos: run, bytes: bytes.length + dataBytes };
    });
  }

  write(chunk: Chunk, bytes: Uint8Array): Promise<void> | undefined {
    const shard = this.#shardOf[chunk.tensor]!;
    const position = this.#begins[chunk.tensor]! + byteLength(this.#dtypes[chunk.tensor]!, chunk.first);
    const put = (): Promise<void> | undefined => this.#writes.write(this.#parts[shard]!, position, bytes);
    return shard === this.#asked && shard === this.#current ? put() : this.#ask(shard).then(put);
  }

  /** Resolves when `shard` is the one that is written: the next, or one that is complete and of which a chunk comes again. */
  #ask(shard: number): Promise<void> {
    if (shard !== this.#asked) {
      this.#asked = shard;
      // After whoever waits for the shard before has written: promises call back in turn.
      this.#turn = this.#advance(this.#turn, shard);
      this.#turn.catch(() => {});
    }
    return this.#turn;
  }

  async #advance(before: Promise<void>, shard: number): Promise<void> {
    await before;
    const begun = this.#parts[shard];
    if (begun) {
      await this.#completeCurrent();
      await begun.reopen();
    }
    // Shards of empty tensors have no chunk that asks for them.
    while (this.#parts.length <= shard) {
      await this.#completeCurrent();
      await this.#begin(this.#shards[this.#parts.length]!);
      this.#current = this.#parts.length - 1;
    }
    this.#current = shard;
  }

  async #begin({ file, infos, bytes }: Shard): Promise<void> {
    if (this.#aborted)
      throw new TensorwireError("ABORTED", `${quote(this.name)} is not being written any more`);
    const { overwrite } = this.options;
    const { journal } = this.#index!;
    const known = journal?.known.get(file);
    const part = await PartFile.open(join(this.#folder, file), { overwrite, expectedBytes: bytes, known });
    this.#parts.push(part);
    journal?.add(part);
    await part.write(serializeSafetensorsHeader(infos, this.#metadata).bytes, 0);
  }

  /** Two shards are open at most: the one that is written, and the one before it, until it is durable. */
  async #completeCurrent(): Promise<void> {
    await this.#writes.flush();
    await this.#completing;
    this.#completing = this.#parts[this.#current]?.complete() ?? Promise.resolve();
    this.#completing.catch(() => {});
  }

  async finish(): Promise<void> {
    const index = this.#index!;
    await this.#ask(this.#shards.length - 1);
    await this.#completeCurrent();
    await this.#completing;
    await index.write(Buffer.from(this.#indexText()), 0);
    await index.complete();
    if (this.options.overwrite) await removeOld(index.path);
    const files = [...this.#parts, index];
    for (const file of files) await file.publish();
    for (const file of files) await file.release();
  }

  #indexText(): string {
    let total = 0;
    const files: [tensor: string, file: string][] = [];
    for (const { file, infos } of this.#shards) {
      for (const info of infos) {
        files.push([info.name, file]);
        total += tensorBytes(info);
      }
    }
    return serializeShardIndex(files, { total_size: total });
  }

  async abort(error: TensorwireError): Promise<void> {
    await this.#end((await this.#index?.journal?.end(error)) ?? false);
  }

  async #end(keep: boolean): Promise<void> {
    this.#aborted = true;
    await this.#turn.catch(() => {});
    // An earlier attempt's, of which this one did not get as far.
    if (!keep && this.#index?.journal) await removeParts(this.#folder, this.#index.journal.known);
    for (const file of [...this.#parts, this.#index]) await file?.abort(keep);
    if (this.#made && !keep) await rmdir(this.#folder).catch(() => {});
  }

  get resumable(): Resumable | undefined {
    return this.#index?.journal;
  }
}

/** An old index must never stand beside new shards, not even where the power fails between two of them. */
async function removeOld(index: string): Promise<void> {
  try {
    await unlink(index);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT")) throw targetError(cause, index);
  }
}
