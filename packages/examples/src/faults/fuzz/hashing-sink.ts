import { type Chunk, formatDigest, type Held, type Totals, xxh64 } from "@tensorwire/core";
import type { ModelSink, SinkModel } from "@tensorwire/stream";

type Resumable = NonNullable<ModelSink["resumable"]>;

/** What an earlier attempt is to have left: chunks, and what was decoded of them. */
export interface Leftovers {
  /** Hash of the manifest that they are of: of another one they are of no use. */
  readonly manifest: bigint;
  readonly held: readonly Held[];
  readonly sameVersion: boolean;
  /** By the chunk's ordinal. */
  readonly decoded: ReadonlyMap<number, string>;
}

/** Takes a model and keeps nothing of it but hashes: what a file under its final name would hold. */
export class HashingSink implements ModelSink {
  readonly name = "a sink of hashes";
  readonly parallel = false;
  resumable: Resumable | undefined;
  /** Hashes of what was decoded, by the chunk's ordinal. */
  readonly decoded = new Map<number, string>();
  #model = "";
  #complete = false;
  /** It was to abort what it had finished: a model that is whole must stay. */
  takenBack = false;

  constructor(private readonly leftovers?: Leftovers) {}

  async open({ manifest, bytes }: SinkModel): Promise<void> {
    const tensors = manifest.tensors.map(({ name, dtype, shape }) => [name, dtype, shape]);
    this.#model = JSON.stringify([manifest.kind, tensors, [...manifest.metadata]]);
    const { leftovers } = this;
    if (!leftovers) return;
    const fits = leftovers.manifest === xxh64(bytes);
    if (fits) for (const [ordinal, hash] of leftovers.decoded) this.decoded.set(ordinal, hash);
    this.resumable = {
      held: fits ? leftovers.held : [],
      sameVersion: fits && leftovers.sameVersion,
      mix: () => {},
      note: () => {},
      checkpoint: async () => {},
      forget: async ({ ordinal }: Chunk) => void this.decoded.delete(ordinal),
    };
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
