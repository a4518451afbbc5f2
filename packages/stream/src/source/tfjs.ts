import { dirname, join } from "node:path";
import {
  type BufferPool,
  byteLength,
  type Chunk,
  dequantizeTfjs,
  type Loan,
  type ModelInfo,
  parseTfjsModel,
  quote,
  TensorwireError,
  type TfjsGroup,
  type TfjsStored,
  type TfjsTensor,
} from "@tensorwire/core";
import { inFile } from "./file-fault.js";
import { FileSet } from "./file-set.js";
import type { ModelSource } from "./source.js";
import { readTextFile } from "./text-file.js";

/**
 * A TensorFlow.js model by its `model.json`: the weights alone, in the manifest's order. Quantized weights are
 * dequantized chunk by chunk, as TensorFlow.js does.
 * @example
 * await transferModel(tensorflowJsSource("tfjs/model.json"), "from-tfjs.safetensors");
 */
export function tensorflowJsSource(modelJsonPath: string): ModelSource {
  return new TensorflowJsSource(modelJsonPath);
}

/** A weight file, and where it lies in its group's bytes. */
interface GroupFile {
  readonly file: number;
  readonly begin: number;
  readonly end: number;
}

class TensorflowJsSource implements ModelSource {
  readonly #files = new FileSet();
  #tensors: readonly TfjsTensor[] = [];
  readonly #groups: GroupFile[][] = [];
  #count = 0;

  constructor(readonly name: string) {}

  get version(): string | undefined {
    return this.#files.version;
  }

  async open(): Promise<ModelInfo> {
    const { text, version } = await readTextFile(this.name);
    const groups = this.#parse(text);
    this.#tensors = groups.flatMap(({ tensors }) => tensors);
    for (const group of groups) this.#groups.push(await this.#openGroup(group));
    this.#files.watch(this.name, version);
    return { kind: "model", tensors: this.#tensors.map(({ info }) => info), metadata: new Map() };
  }

  #parse(text: string): TfjsGroup[] {
    try {
      return parseTfjsModel(text);
    } catch (error) {
      throw inFile(error, this.name);
    }
  }

  /** The sizes tell a missing or mixed-up file before anything is sent. */
  async #openGroup({ paths, bytes }: TfjsGroup): Promise<GroupFile[]> {
    const files: GroupFile[] = [];
    let end = 0;
    for (const path of paths) {
      const { size } = await this.#files.add(join(dirname(this.name), path));
      files.push({ file: this.#count++, begin: end, end: end + size });
      end += size;
    }
    if (end === bytes) return files;
    const [first, last] = [paths[0], paths.at(-1)].map((path) => quote(path ?? ""));
    const names = paths.length === 1 ? first : `${first} to ${last}`;
    const fault = end < bytes ? "too short" : "too long";
    throw new TensorwireError(
      "SOURCE_INVALID",
      `${quote(this.name)}: weight files ${names} are ${fault}: they have ${end} bytes, the manifest's weights take ${bytes}`,
    );
  }

  read(chunk: Chunk, pool: BufferPool): Loan | Promise<Loan> {
    const { group, begin, stored } = this.#tensors[chunk.tensor]!;
    if (stored) return this.#dequantized(group, begin, stored, chunk, pool);
    return this.#stored(group, begin + chunk.offset, chunk.bytes, pool);
  }

  async #dequantized(
    group: number,
    begin: number,
    stored: TfjsStored,
    { first, elements, bytes }: Chunk,
    pool: BufferPool,
  ): Promise<Loan> {
    const at = begin + byteLength(stored.dtype, first);
    const source = await this.#stored(group, at, byteLength(stored.dtype, elements), pool);
    try {
      const target = pool.lend(bytes);
      dequantizeTfjs(stored, source.bytes, target.bytes);
      return target;
    } finally {
      source.release();
    }
  }

  /** Bytes of a group as they lie in its files, of which they may span several. */
  #stored(group: number, position: number, bytes: number, pool: BufferPool): Loan | Promise<Loan> {
    const files = this.#groups[group]!;
    const first = files.findIndex(({ end }) => position < end);
    const { file, begin, end } = files[first]!;
    if (position + bytes <= end) return this.#files.read(file, position - begin, bytes, pool);
    return this.#spanning(files.slice(first), position, pool.lend(bytes));
  }

  async #spanning(files: readonly GroupFile[], position: number, loan: Loan): Promise<Loan> {
    try {
      let done = 0;
      for (const { file, begin, end } of files) {
        const from = position + done;
        const part = Math.min(end - from, loan.bytes.length - done);
        await this.#files.readInto(file, from - begin, loan.bytes.subarray(done, done + part));
        done += part;
        if (done === loan.bytes.length) break;
      }
      return loan;
    } catch (error) {
      loan.release();
      throw error;
    }
  }

  async verify(): Promise<void> {
    await this.#files.verify();
  }

  async close(): Promise<void> {
    await this.#files.close();
  }
}
