import {
  addDifferences,
  addRounded,
  type BufferPool,
  type Chunk,
  isWholeDType,
  quote,
  takeGreater,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { AggregateRule } from "./aggregate-options.js";
import type { ChunkRule, Part } from "./chunk-rule.js";
import { eachDecodedChunk } from "./decoded-chunks.js";
import type { SumMemory } from "./sum-memory.js";

/** What is not of floats: all agree, or there is a rule. */
export class IntegerRule implements ChunkRule {
  #noticed = false;

  /** @param notice Told once of a tensor on which clients do not agree. */
  constructor(
    private readonly parts: readonly Part[],
    private readonly tensor: TensorInfo,
    private readonly rule: AggregateRule["integers"],
    private readonly memory: SumMemory,
    private readonly notice: (message: string) => void,
  ) {}

  async combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void> {
    const { dtype } = this.tensor;
    const { elements } = chunk;
    let sums: Float64Array | undefined;
    await eachDecodedChunk(this.parts, chunk, pool, (bytes, { client, share }, index) => {
      if (index === 0) target.set(bytes);
      else if (Buffer.compare(target, bytes) !== 0) {
        const rule = this.#differs(client.id, chunk);
        if (rule === "first" || !isWholeDType(dtype)) return;
        if (rule === "max") return takeGreater(dtype, elements, target, bytes);
        sums ??= this.memory.zeros("f64", elements) as Float64Array;
        addDifferences(dtype, elements, target, bytes, share, sums);
      }
    });
    if (!sums || !isWholeDType(dtype)) return;
    const all = this.parts.reduce((sum, { share }) => sum + share, 0);
    for (let i = 0; i < elements; i++) sums[i]! /= all;
    addRounded(dtype, elements, target, sums);
  }

  /** The rule for a chunk that is not the same of all. */
  #differs(id: string, chunk: Chunk): AggregateRule["integers"] {
    const { name, dtype } = this.tensor;
    const first = quote(this.parts[0]!.client.id);
    if (this.rule === "error") {
      const message = `client ${quote(id)}: its ${dtype} values are not those of ${first}: have all clients agree, or choose what becomes of them (integers)`;
      throw new TensorwireError("SOURCE_MISMATCH", message, { tensor: name, chunk: chunk.index });
    }
    const rule = isWholeDType(dtype) ? this.rule : "first";
    if (!this.#noticed && rule === "first") {
      this.notice(
        `tensor ${quote(name)}: clients do not agree on its ${dtype} values; those of ${first} are taken`,
      );
    }
    this.#noticed = true;
    return rule;
  }
}
