import {
  byteLength,
  type Chunk,
  type DType,
  quote,
  SAFETENSORS_PREFIX_BYTES,
  serializeSafetensorsHeader,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";
import { journalHead } from "../journal/head.js";
import { AdjoiningWrites } from "./adjoining-writes.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import type { ModelSink, Resumable, SinkModel } from "./sink.js";

/**
 * Writes one safetensors file, each chunk in its place. Where the source was one and no dtype changes, the file gets the
 * source's header as it was, and is byte for byte the source; else a header of its own, tensors in the manifest's order.
 * @example
 * await transferModel("model.twire", safetensorsSink("unpacked.safetensors"));
 */
export function safetensorsSink(path: string, options: TargetOptions = {}): ModelSink {
  return new SafetensorsSink(path, options);
}

class SafetensorsSink implements ModelSink {
  readonly parallel = true;
  readonly #writes = new AdjoiningWrites();
  #file: PartFile | undefined;
  #dtypes: readonly DType[] = [];
  #begins: readonly number[] = [];

  constructor(
    readonly name: string,
    private readonly options: TargetOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    refuseRaw(this.name, model);
    const { header, begins, dataBytes } = layout(model);
    const expectedBytes = header.length + dataBytes;
    this.#dtypes = model.dtypes;
    this.#begins = begins.map((begin) => header.length + begin);
    const { resume = true, ...options } = this.options;
    const topic = resume ? journalHead(model, ["safetensors", header]) : undefined;
    this.#file = await PartFile.open(this.name, { ...options, expectedBytes, topic });
    if (this.#file.journal) this.#file.journal.settle = () => this.#writes.settle();
    await this.#file.write(header, 0);
  }

  get resumable(): Resumable | undefined {
    return this.#file?.journal;
  }

  write(chunk: Chunk, bytes: Uint8Array): Promise<void> | undefined {
    const { tensor, first } = chunk;
    const position = this.#begins[tensor]! + byteLength(this.#dtypes[tensor]!, first);
    return this.#writes.write(this.#file!, position, bytes);
  }

  async finish(): Promise<void> {
    await this.#writes.flush();
    await this.#file!.finish();
  }

  async abort(error: TensorwireError): Promise<void> {
    await this.#file?.abort(await this.#file.journal?.end(error));
  }
}

/** @throws TensorwireError `INVALID_ARGUMENT` where what arrives is no model. */
export function refuseRaw(path: string, { manifest }: SinkModel): void {
  if (manifest.kind !== "raw") return;
  const message = `a raw file cannot become ${quote(path)}: give a path that is not a model's, and it is written as it is`;
  throw new TensorwireError("INVALID_ARGUMENT", message);
}

/** How a file begins, and where in its data each tensor does. */
interface Layout {
  readonly header: Uint8Array;
  readonly begins: readonly number[];
  readonly dataBytes: number;
}

function layout({ manifest, dtypes }: SinkModel): Layout {
  const infos = manifest.tensors.map(({ name, shape }, i) => ({ name, dtype: dtypes[i]!, shape }));
  const unchanged = manifest.tensors.every(({ dtype }, i) => dtype === dtypes[i]);
  if (manifest.header && unchanged) {
    // The manifest was held to it: its tensors are these, in the order of their data, without holes.
    const begins: number[] = [];
    let dataBytes = 0;
    for (const info of infos) {
      begins.push(dataBytes);
      dataBytes += tensorBytes(info);
    }
    return { header: sourceHeader(manifest.header.text), begins, dataBytes };
  }
  const { bytes, offsets, dataBytes } = serializeSafetensorsHeader(infos, metadataOf(manifest.metadata));
  return { header: bytes, begins: offsets.map(({ begin }) => begin), dataBytes };
}

/** A file without metadata has no member for it. */
export function metadataOf(metadata: ReadonlyMap<string, string>): ReadonlyMap<string, string> | undefined {
  return metadata.size ? metadata : undefined;
}

function sourceHeader(text: string): Uint8Array {
  const json = Buffer.from(text, "utf8");
  const header = new Uint8Array(SAFETENSORS_PREFIX_BYTES + json.length);
  new DataView(header.buffer).setBigUint64(0, BigInt(json.length), true);
  header.set(json, SAFETENSORS_PREFIX_BYTES);
  return header;
}
