import { type Chunk, formatDigest, type Held, type Totals, xxh64 } from "@tensorwire/core";
import type { ModelSink, SinkModel } from "@tensorwire/stream";

/** What an earlier attempt is to have left: chunks, and what was decoded of them. */
export interface Leftovers {
  readonly held: readonly Held[];
  readonly sameVersion: boolean;
  /** By the chunk's ordinal. */
  readonly decoded: ReadonlyMap<number, string>;
}

/** Takes a model and keeps nothing of it but hashes: what a file under its final name would hold. */
export class HashingSink implements ModelSink {
  readonly name = "a sink of hashes";
  readonly parallel = false;
  readonly resumable;
  /** Hashes of what was decoded, by the chunk's ordinal. */
  readonly decoded: Map<number, string>;
  #model = "";
  #complete = false;
  /** It was to abort what it had finished: a model that is whole must stay. */
  takenBack = false;

  constructor(leftovers?: Leftovers) {
    this.decoded = new Map(leftovers?.decoded);
    this.resumable = leftovers && {
      held: leftovers.held,
      sameVersion: leftovers.sameVersion,
      note: () => {},
      checkpoint: async () => {},
      forget: async ({ ordinal }: Chunk) => void this.decoded.delete(ordinal),
    };
  }

  async open({ manifest }: SinkModel): Promise<void> {
    const tensors = manifest.tensors.map(({ name, dtype, shape }) => [name, dtype, shape]);
    this.#model = JSON.stringify([manifest.kind, tensors, [...manifest.metadata]]);
  }

  write({ ordinal }: Chunk, bytes: Uint8Array): undefined {
    this.decoded.set(ordinal, formatDigest(xxh64(bytes)));
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
    const chunks = [...this.decoded].sort(([a], [b]) => a - b);
    return [this.#model, ...chunks.map(([ordinal, hash]) => `${ordinal} ${hash}`)].join("\n");
  }
}
