import {
  type Chunk,
  type ChunkDigest,
  formatDigest,
  type Held,
  quote,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import type { EncodedSink, Resumable, SinkModel } from "../sink/sink.js";
import type { ArtifactSource } from "../source/artifact.js";

/** Chunks of one run: as many as stand in a frame. */
const RUN = 4096;

/**
 * Takes a model that is there already, from a client that has not heard so: whoever sends the same one again gets its receipt, and
 * whoever sends another one is refused.
 */
export class ArrivedSink implements EncodedSink, Resumable {
  readonly name: string;
  readonly sameVersion = false;
  readonly #held: Held[] = [];

  constructor(private readonly artifact: ArtifactSource) {
    this.name = artifact.name;
  }

  get resumable(): Resumable {
    return this;
  }

  get held(): readonly Held[] {
    return this.#held;
  }

  async open({ plan, manifest }: SinkModel): Promise<void> {
    await this.artifact.open();
    // Of SHA-256 the artifact has one for all.
    if (manifest.integrity === "sha256" || this.artifact.totals.chunks !== plan.chunks) throw this.#taken();
    for (let first = 0; first < plan.chunks; first += RUN) {
      const count = Math.min(RUN, plan.chunks - first);
      const chunks: ChunkDigest[] = Array.from({ length: count }, (_, i) => {
        const { codec, hash } = this.artifact.record(first + i);
        return { codec, hash };
      });
      this.#held.push({ first, chunks });
    }
  }

  writeEncoded(): undefined {
    throw this.#taken();
  }

  mix(): void {}

  note(): void {}

  async checkpoint(): Promise<void> {}

  async forget(_chunk: Chunk): Promise<void> {
    throw this.#taken();
  }

  async finish({ digest }: Totals): Promise<void> {
    if (formatDigest(digest) !== formatDigest(this.artifact.totals.digest)) throw this.#taken();
    await this.artifact.close();
  }

  async abort(): Promise<void> {
    await this.artifact.close().catch(() => {});
  }

  #taken(): TensorwireError {
    const message = `${quote(this.name)} has arrived already, and this is another model: a client sends one a round`;
    return new TensorwireError("TARGET_EXISTS", message);
  }
}
