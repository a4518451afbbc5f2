import { type BufferPool, byteLength, type Chunk, type FloatDType, type RankedMeans } from "@tensorwire/core";
import type { AggregateRule } from "./aggregate-options.js";
import type { ChunkRule, Part } from "./chunk-rule.js";
import { withDecodedChunks } from "./decoded-chunks.js";
import { Turns } from "../compute/turns.js";

/** Elements that are ranked before others have their turn: as many as `RankedMeans` takes at once, or a multiple of that. */
const STEP_ELEMENTS = 4096;

/** How many of so many clients are left out at either end. */
export function droppedOf(clients: number, { method, trim }: Pick<AggregateRule, "method" | "trim">): number {
  const most = Math.floor((clients - 1) / 2);
  // Of a median all but the one, or the two, in the middle. A product that is a whole number may come out beside it.
  return method === "median" ? most : Math.min(most, Math.ceil(trim * clients - 1e-9));
}

/** The mean of those in the middle, element by element. */
export class RankedMean implements ChunkRule {
  readonly #means: RankedMeans;
  readonly #factors: readonly number[];

  constructor(
    private readonly parts: readonly Part[],
    private readonly dtype: FloatDType,
    means: RankedMeans,
  ) {
    this.#means = means;
    this.#factors = parts.map(({ factor }) => factor);
  }

  combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void> {
    return withDecodedChunks(this.parts, chunk, pool, async (chunks) => {
      const turns = new Turns();
      // Sorting a large chunk of many clients takes seconds.
      for (let first = 0; first < chunk.elements; first += STEP_ELEMENTS) {
        await turns.next();
        const elements = Math.min(STEP_ELEMENTS, chunk.elements - first);
        const [begin, end] = [first, first + elements].map((at) => byteLength(this.dtype, at));
        const part = (bytes: Uint8Array): Uint8Array => bytes.subarray(begin, end);
        this.#means.combine(this.dtype, elements, chunks.map(part), this.#factors, part(target));
      }
    });
  }
}
