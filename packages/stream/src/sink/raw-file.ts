import { type Chunk, quote, TensorwireError } from "@tensorwire/core";
import { journalHead } from "../journal/head.js";
import { AdjoiningWrites } from "./adjoining-writes.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import type { ModelSink, Resumable, SinkModel } from "./sink.js";

/**
 * Writes a raw file as it was.
 * @example
 * await transferModel(rawFileSource("weights.bin"), rawFileSink("copy.bin"));
 */
export function rawFileSink(path: string, options: TargetOptions = {}): ModelSink {
  return new RawFileSink(path, options);
}

class RawFileSink implements ModelSink {
  readonly parallel = true;
  readonly #writes = new AdjoiningWrites();
  #file: PartFile | undefined;

  constructor(
    readonly name: string,
    private readonly options: TargetOptions,
  ) {}

  async open(model: SinkModel): Promise<void> {
    if (model.manifest.kind !== "raw") {
      const message = `a model cannot become ${quote(this.name)} as it is: name the file *.safetensors, or *.twire to keep it encoded`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    const { resume = true, ...options } = this.options;
    const topic = resume ? journalHead(model, ["raw"]) : undefined;
    this.#file = await PartFile.open(this.name, { ...options, expectedBytes: model.plan.bytes, topic });
    if (this.#file.journal) this.#file.journal.settle = () => this.#writes.settle();
  }

  get resumable(): Resumable | undefined {
    return this.#file?.journal;
  }

  write({ offset }: Chunk, bytes: Uint8Array): Promise<void> | undefined {
    return this.#writes.write(this.#file!, offset, bytes);
  }

  async finish(): Promise<void> {
    await this.#writes.flush();
    await this.#file!.finish();
  }

  async abort(error: TensorwireError): Promise<void> {
    await this.#file?.abort(await this.#file.journal?.end(error));
  }
}
