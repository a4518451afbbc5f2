import { type Chunk, quote, TensorwireError } from "@tensorwire/core";
import { AdjoiningWrites } from "./adjoining-writes.js";
import { PartFile, type TargetOptions } from "./part-file.js";
import type { ModelSink, SinkModel } from "./sink.js";

/** Writes a raw file as it was. */
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

  async open({ manifest, plan }: SinkModel): Promise<void> {
    if (manifest.kind !== "raw") {
      const message = `a model cannot become ${quote(this.name)} as it is: name the file *.safetensors, or *.twire to keep it encoded`;
      throw new TensorwireError("INVALID_ARGUMENT", message);
    }
    this.#file = await PartFile.open(this.name, { ...this.options, expectedBytes: plan.bytes });
  }

  write({ offset }: Chunk, bytes: Uint8Array): Promise<void> | undefined {
    return this.#writes.write(this.#file!, offset, bytes);
  }

  async finish(): Promise<void> {
    await this.#writes.flush();
    await this.#file!.finish();
  }

  async abort(): Promise<void> {
    await this.#file?.abort();
  }
}
