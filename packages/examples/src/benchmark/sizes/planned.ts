import {
  ChunkPlan,
  type CodecSpec,
  DEFAULT_CHUNK_BYTES,
  type DType,
  defaultCodecs,
  resolvePolicy,
  type TensorInfo,
} from "@tensorwire/core";

/** What a model takes that is encoded, in bytes. */
export interface EncodedSize {
  readonly codes: number;
  readonly scales: number;
}

/** Computed from the chunk plan and the codec's own arithmetic, as a sender announces it: nothing is encoded. */
export function plannedSize(tensors: readonly TensorInfo[], codec: CodecSpec): EncodedSize {
  // Norms and biases too, as in NVFlare's table.
  const specs = resolvePolicy({ codec, minElements: 0 }, tensors);
  let [payload, scales] = [0, 0];
  for (const { tensor, elements } of new ChunkPlan(tensors, DEFAULT_CHUNK_BYTES).walk()) {
    const spec = specs[tensor]!;
    const { dtype } = tensors[tensor]!;
    const each = defaultCodecs.get(spec.name);
    payload += each.payloadBytes(spec, dtype, elements);
    scales += each.scaleBytes(spec, dtype, elements);
  }
  return { codes: payload - scales, scales };
}

export const inDType = (tensors: readonly TensorInfo[], dtype: DType): TensorInfo[] =>
  tensors.map((tensor) => ({ ...tensor, dtype }));
