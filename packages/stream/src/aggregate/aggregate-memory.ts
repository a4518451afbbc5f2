import {
  type ChunkPlan,
  isWholeDType,
  RankedMeans,
  type SlabAlignment,
  type TensorInfo,
} from "@tensorwire/core";
import type { SourceMemory } from "../source/source.js";
import type { AggregateRule } from "./aggregate-options.js";
import { type ClientModel, isFloatTensor } from "./client-model.js";
import { droppedOf } from "./ranked-mean.js";
import { ReadAheadPool } from "./read-ahead-pool.js";
import { SumMemory } from "./sum-memory.js";
import { sumsInPlace } from "./weighted-mean.js";

/** What an aggregate takes of memory besides the chunks that it gives: docs/limits.md. */
export class AggregateMemory {
  readonly readAhead: ReadAheadPool;
  readonly sums: SumMemory;
  #rankedBytes = 0;

  constructor(
    private readonly rule: AggregateRule,
    private readonly tensors: readonly TensorInfo[],
    clients: number,
    alignment: SlabAlignment | undefined,
  ) {
    this.readAhead = new ReadAheadPool(clients, alignment);
    this.sums = new SumMemory(alignment);
  }

  /** For so many clients. */
  ranked(clients: number): RankedMeans {
    const means = new RankedMeans(clients, droppedOf(clients, this.rule));
    this.#rankedBytes = means.bytes;
    return means;
  }

  /** For budgets. */
  taken(plan: ChunkPlan, clients: readonly ClientModel[]): SourceMemory {
    const { method } = this.rule;
    const each = clients.map((client) => client.memory(plan));
    // One after the other: a payload, and what it is made of; decoded, where it is not summed as it is.
    const decoded = this.tensors.every(isFloatTensor) ? 0 : 1;
    const ranked = method === "trimmed-mean" || method === "median";
    const kept = each.reduce((sum, memory) => sum + (memory.kept ?? 0), 0);
    const making = Math.max(...each.map((memory) => memory.slabs - (memory.kept ?? 0)));
    const slabs = 1 + making + kept + (ranked ? clients.length : decoded);
    const own = each.reduce((sum, { bytes }) => sum + bytes, 0);
    const bytes = own + this.readAhead.mostBytes + this.#sumBytes(plan) + this.#rankedBytes;
    return { slabs, bytes, kept };
  }

  #sumBytes(plan: ChunkPlan): number {
    const { method, accumulator, integers } = this.rule;
    let most = 0;
    this.tensors.forEach((tensor, i) => {
      const { first, count } = plan.range(i);
      if (count === 0) return;
      let width = 0;
      if (isFloatTensor(tensor)) {
        const summed = method === "mean" && !sumsInPlace(tensor.dtype, accumulator);
        width = summed ? (accumulator === "f32" ? 4 : 8) : 0;
      } else if (integers === "mean-round" && isWholeDType(tensor.dtype)) {
        width = 8;
      }
      most = Math.max(most, width * plan.chunk(first).elements);
    });
    return most;
  }

  /** Gives back what is its own. */
  free(): void {
    this.readAhead.beyond = undefined;
    this.readAhead.keep(0);
    this.sums.free();
  }
}
