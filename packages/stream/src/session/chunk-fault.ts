import { asTensorwireError, type Chunk, type ModelInfo, TensorwireError } from "@tensorwire/core";

/** The error with the chunk's place. One that has a place keeps it, and an abort has none. */
export function inChunk(
  error: unknown,
  { tensors }: Pick<ModelInfo, "tensors">,
  chunk: Chunk,
): TensorwireError {
  const known = asTensorwireError(error, "INTERNAL");
  if (known.tensor !== undefined || known.code === "ABORTED") return known;
  const { code, message, cause, retryable, peerCode } = known;
  return new TensorwireError(code, message, {
    cause: cause ?? known,
    retryable,
    peerCode,
    tensor: tensors[chunk.tensor]!.name,
    chunk: chunk.index,
  });
}
