import {
  type BufferPool,
  type Chunk,
  type CodecBackend,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import type { ChunkRule } from "./chunk-rule.js";

/** A mean of which no value may be out of its dtype's range, as sums of the largest values there are can be. */
export class FiniteMean implements ChunkRule {
  constructor(
    private readonly mean: ChunkRule,
    private readonly tensor: TensorInfo,
    private readonly backend: Pick<CodecBackend, "finite">,
  ) {}

  async combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void> {
    await this.mean.combine(chunk, pool, target);
    const { dtype, name } = this.tensor;
    const output = dtype === "F64" ? "F64" : "F32";
    const job = {
      codec: { name: "none" },
      dtype,
      elements: chunk.elements,
      payload: target,
      output,
    } as const;
    if ((await this.backend.finite(job)).finite) return;
    const message = `the mean of finite values is out of the range of ${dtype}: sum in f64, or mend the models`;
    throw new TensorwireError("VALUE_NOT_FINITE", message, { tensor: name, chunk: chunk.index });
  }
}
