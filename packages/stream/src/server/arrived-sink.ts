import {
  BufferPool,
  type Chunk,
  type ChunkDigest,
  ChunkPlan,
  formatDigest,
  type Held,
  quote,
  TensorwireError,
  type Totals,
} from "@tensorwire/core";
import type { EncodedSink, Resumable, SinkModel } from "../sink/sink.js";
import type { ArtifactSource } from "../source/artifact.js";
import type { Scratch } from "./scratch.js";

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

  /** @param scratch Whoever has its turn there reads: of all that come again, one. */
  constructor(
    private readonly artifact: ArtifactSource,
    private readonly scratch: Scratch,
  ) {
    this.name = artifact.name;
  }

  get resumable(): Resumable {
    return this;
  }

  get held(): readonly Held[] {
    return this.#held;
  }

  async open({ plan, manifest }: SinkModel): Promise<void> {
    const { tensors, chunkBytes, integrity } = await this.artifact.open();
    if (manifest.integrity !== integrity || this.artifact.totals.chunks !== plan.chunks) throw this.#taken();
    const records = (first: number, count: number): ChunkDigest[] =>
      Array.from({ length: count }, (_, i) => {
        const { codec, hash } = this.artifact.record(first + i);
        return { codec, hash };
      });
    const sha256s =
      integrity === "sha256" ? await this.#hashed(new ChunkPlan(tensors, chunkBytes)) : undefined;
    for (let first = 0; first < plan.chunks; first += RUN) {
      const count = Math.min(RUN, plan.chunks - first);
      this.#held.push({ first, chunks: sha256s?.slice(first, first + count) ?? records(first, count) });
    }
  }

  /** Of SHA-256 an artifact has one for each tensor: what its chunks have is to be found again. */
  #hashed(plan: ChunkPlan): Promise<ChunkDigest[]> {
    return this.scratch.lend(0, async () => {
      const pool = new BufferPool(plan.maxChunkBytes);
      const digests: ChunkDigest[] = [];
      this.artifact.want?.([{ first: 0, count: plan.chunks }]);
      for (const chunk of plan.walk()) {
        const { record, loan } = await this.artifact.readEncoded(chunk, pool);
        loan.release();
        const { codec, hash, sha256 } = record;
        digests.push({ codec, hash, sha256 });
      }
      return digests;
    });
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
