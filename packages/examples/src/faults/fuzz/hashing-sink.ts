import { type Chunk, formatDigest, type Totals, xxh64 } from "@tensorwire/core";
import type { ModelSink, SinkModel } from "@tensorwire/stream";

/** Takes a model and keeps nothing of it but hashes: what a file under its final name would hold. */
export class HashingSink implements ModelSink {
  readonly name = "a sink of hashes";
  readonly parallel = false;
  readonly #chunks: string[] = [];
  #complete = false;
  /** It was to abort what it had finished: a model that is whole must stay. */
  takenBack = false;

  async open({ manifest }: SinkModel): Promise<void> {
    const tensors = manifest.tensors.map(({ name, dtype, shape }) => [name, dtype, shape]);
    this.#chunks.push(JSON.stringify([manifest.kind, tensors, [...manifest.metadata]]));
  }

  write({ ordinal }: Chunk, bytes: Uint8Array): undefined {
    this.#chunks.push(`${ordinal} ${formatDigest(xxh64(bytes))}`);
  }

  async finish(_totals: Totals): Promise<void> {
    this.#complete = true;
  }

  async abort(): Promise<void> {
    if (this.#complete) this.takenBack = true;
  }

  /** Whether a file would have its name. */
  get complete(): boolean {
    return this.#complete;
  }

  get content(): string {
    return this.#chunks.join("\n");
  }
}
