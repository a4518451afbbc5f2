import { byteLength, type Chunk, type ChunkDigest, elementCount, type Held } from "@tensorwire/core";
import type { ModelSink, Resumable, SinkModel } from "../src/sink/sink.js";

/** What a sink in memory keeps when its process dies: what a disk would have. */
export class Disk {
  /** Of the model that the journal is of. */
  manifest = "";
  version: string | undefined;
  /** Chunks of more than one version may be here. */
  mixed = false;
  tensors: Uint8Array[] = [];
  readonly journal = new Map<number, ChunkDigest>();
  finished = false;
  checkpoints = 0;
  /** Ordinals in the order in which they were forgotten. */
  readonly forgotten: number[] = [];
}

/** Writes a model to a `Disk`, and goes on from what is there. What was not in a checkpoint is lost, as in a crash. */
export class ResumableSink implements ModelSink, Resumable {
  readonly name = "a disk in memory";
  readonly parallel = true;
  readonly resumable: Resumable = this;
  held: Held[] = [];
  sameVersion = false;
  readonly #noted = new Map<number, ChunkDigest>();
  #model: SinkModel | undefined;
  #busy = false;
  #finished = 0;

  constructor(
    readonly disk: Disk,
    private readonly delay: () => Promise<void> = async () => {},
  ) {}

  async open(model: SinkModel): Promise<void> {
    const { disk } = this;
    const { manifest, bytes, dtypes, version } = model;
    this.#model = model;
    const identity = Buffer.from(bytes).toString("latin1") + dtypes.join();
    if (disk.manifest !== identity) {
      disk.manifest = identity;
      disk.journal.clear();
      disk.mixed = false;
      disk.version = version;
      disk.tensors = manifest.tensors.map(
        ({ shape }, i) => new Uint8Array(byteLength(dtypes[i]!, elementCount(shape))),
      );
    }
    this.sameVersion = !disk.mixed && version !== undefined && disk.version === version;
    if (!this.sameVersion && disk.journal.size > 0) disk.mixed = true;
    if (disk.journal.size === 0) disk.version = version;
    this.held = [...disk.journal]
      .toSorted(([a], [b]) => a - b)
      .map(([first, digest]) => ({ first, chunks: [digest] }));
  }

  async write(chunk: Chunk, bytes: Uint8Array): Promise<void> {
    // A chunk that the journal still holds must not be written over.
    if (this.disk.journal.has(chunk.ordinal)) throw new Error(`chunk ${chunk.ordinal} was not forgotten`);
    await this.delay();
    const offset = byteLength(this.#model!.dtypes[chunk.tensor]!, chunk.first);
    this.disk.tensors[chunk.tensor]!.set(bytes, offset);
  }

  mix(): void {
    this.disk.mixed = true;
  }

  note(chunk: Chunk, digest: ChunkDigest): void {
    this.#noted.set(chunk.ordinal, digest);
    this.#finished += chunk.bytes;
  }

  async checkpoint(): Promise<void> {
    await this.#alone(async () => {
      const noted = [...this.#noted];
      await this.delay();
      for (const [ordinal, digest] of noted) {
        this.disk.journal.set(ordinal, digest);
        this.#noted.delete(ordinal);
      }
      this.disk.checkpoints++;
    });
  }

  async forget({ ordinal }: Chunk): Promise<void> {
    await this.#alone(async () => {
      await this.delay();
      this.disk.journal.delete(ordinal);
      this.#noted.delete(ordinal);
      this.disk.forgotten.push(ordinal);
    });
  }

  async #alone(work: () => Promise<void>): Promise<void> {
    if (this.#busy) throw new Error("the journal is busy");
    this.#busy = true;
    await work();
    this.#busy = false;
  }

  async finish(): Promise<void> {
    this.disk.finished = true;
    this.disk.journal.clear();
  }

  async abort(): Promise<void> {}
}
