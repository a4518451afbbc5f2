import {
  type Answer,
  type BufferPool,
  type Chunk,
  ChunkPlan,
  type ChunkRange,
  type Loan,
  type ModelInfo,
  quote,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { joinedToken } from "../source/file-version.js";
import type { ModelSource, SourceMemory } from "../source/source.js";
import { ElementRuns } from "./element-runs.js";
import type { Input } from "./input.js";

/** A model that an input has a part in, and where each of the computed tensors is in it: nowhere, where it is not read for that. */
export interface Part {
  readonly input: Input;
  readonly places: readonly (number | undefined)[];
}

/** A source whose chunks are computed from the same elements of other models, of which there are no more than chunks in memory. */
export abstract class ComputedSource implements ModelSource {
  abstract readonly name: string;
  protected readonly runs: readonly ElementRuns[];
  #parts: readonly Part[] = [];
  #tensors: readonly TensorInfo[] | undefined;

  constructor(protected readonly inputs: readonly Input[]) {
    this.runs = inputs.map((input) => new ElementRuns(input));
  }

  /** Everything, besides its inputs, that its bytes depend on. */
  protected abstract readonly parameters: readonly unknown[];

  get version(): string | undefined {
    const versions = this.inputs.flatMap(({ version }) => version ?? []);
    if (versions.length < this.inputs.length) return undefined;
    return joinedToken(JSON.stringify(this.parameters), ...versions);
  }

  get oneShot(): boolean {
    return this.inputs.some(({ oneShot }) => oneShot);
  }

  get chunkBytes(): number | undefined {
    return this.inputs.find(({ chunkBytes }) => chunkBytes !== undefined)?.chunkBytes;
  }

  memory(plan: ChunkPlan): SourceMemory {
    const each = this.runs.map((runs) => runs.memory(plan));
    return {
      slabs: each.reduce((sum, { slabs }) => sum + slabs, 0),
      bytes: each.reduce((sum, { bytes }) => sum + bytes, 0),
      kept: each.reduce((sum, { kept = 0 }) => sum + kept, this.#keptChunks()),
    };
  }

  /** Inputs of which a part of a chunk can be left for the next one. */
  #keptChunks(): number {
    if (!this.#tensors || this.chunkBytes === undefined) return 0;
    // Its own chunks, whatever the plan is of who reads what is made of them.
    const plan = new ChunkPlan(this.#tensors, this.chunkBytes);
    return this.#parts.filter(({ input, places }) =>
      places.some((place, i) => crosses(plan, i, input.plan, place)),
    ).length;
  }

  abstract open(): Promise<ModelInfo>;

  /** @throws TensorwireError `SOURCE_MISMATCH` where two of the inputs can be read in their own chunks only, and those differ. */
  protected opened(tensors: readonly TensorInfo[], parts: readonly Part[]): void {
    const fixed = this.inputs.filter(({ chunkBytes }) => chunkBytes !== undefined);
    const other = fixed.find(({ chunkBytes }) => chunkBytes !== fixed[0]!.chunkBytes);
    if (other) {
      const message = `${quote(other.name)} is in chunks of ${other.chunkBytes} bytes, and ${quote(fixed[0]!.name)} of ${fixed[0]!.chunkBytes}: make one of them again, with the chunkBytes of the other`;
      throw new TensorwireError("SOURCE_MISMATCH", message);
    }
    this.#tensors = tensors;
    this.#parts = parts;
  }

  want(runs: readonly ChunkRange[]): void {
    const { chunkBytes } = this;
    if (!this.#tensors || chunkBytes === undefined) return;
    const plan = new ChunkPlan(this.#tensors, chunkBytes);
    for (const { input, places } of this.#parts) input.want(runs, plan, places);
  }

  abstract read(chunk: Chunk, pool: BufferPool): Answer<Loan>;

  async verify(): Promise<void> {
    for (const input of this.inputs) await input.verify();
  }

  /** What comes of one input does not keep the others from being closed. */
  async close(): Promise<void> {
    for (const runs of this.runs) runs.close();
    const closing = await Promise.allSettled(this.inputs.map((input) => input.close()));
    for (const result of closing) if (result.status === "rejected") throw result.reason;
  }
}

/** Whether chunks of a tensor end within those of an input's. */
function crosses(
  plan: ChunkPlan,
  tensor: number,
  own: ChunkPlan | undefined,
  place: number | undefined,
): boolean {
  const { first, count } = plan.range(tensor);
  if (own === undefined || place === undefined || count < 2) return false;
  return plan.chunk(first).elements % own.chunk(own.range(place).first).elements !== 0;
}
