import type { BufferPool, Chunk, CodecBackend, FloatDType } from "@tensorwire/core";
import type { ChunkRule, Part } from "./chunk-rule.js";
import type { SumMemory } from "./sum-memory.js";

/** Whether sums of such elements are made where the elements come to stand. */
export function sumsInPlace(dtype: FloatDType, accumulator: "f32" | "f64"): boolean {
  return dtype === "F64" || (dtype === "F32" && accumulator === "f32");
}

/** The sum of what every client has, times its weight, one client after the other. */
export class WeightedMean implements ChunkRule {
  constructor(
    private readonly parts: readonly Part[],
    private readonly dtype: FloatDType,
    private readonly accumulator: "f32" | "f64",
    private readonly memory: SumMemory,
    private readonly backend: Pick<CodecBackend, "decode">,
  ) {}

  async combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void> {
    const { dtype, accumulator, parts } = this;
    const inPlace = sumsInPlace(dtype, accumulator);
    const sums = inPlace ? this.#sumsOf(target) : this.memory.zeros(accumulator, chunk.elements);
    for (const { client, weight, factor } of parts) {
      await client.accumulate(chunk, pool, weight * factor, sums);
    }
    if (!inPlace) await this.#round(sums, target);
  }

  /** To nearest even: to float32 first, where sums are in float64. */
  async #round(sums: Float32Array | Float64Array, target: Uint8Array): Promise<void> {
    const payload = new Uint8Array(sums.buffer, sums.byteOffset, sums.byteLength);
    const from = sums instanceof Float64Array ? "F64" : "F32";
    const job = { codec: { name: "none" }, dtype: from, elements: sums.length, payload } as const;
    await this.backend.decode({ ...job, output: this.dtype, target });
  }

  #sumsOf({ buffer, byteOffset, length }: Uint8Array): Float32Array | Float64Array {
    const sums =
      this.dtype === "F64"
        ? new Float64Array(buffer, byteOffset, length / 8)
        : new Float32Array(buffer, byteOffset, length / 4);
    return sums.fill(0);
  }
}
