import { addModulo32, type BufferPool, type Chunk, type TensorInfo, TensorwireError } from "@tensorwire/core";
import type { ChunkRule, Part } from "./chunk-rule.js";
import { eachDecodedChunk } from "./decoded-chunks.js";

/** Codes of all clients summed modulo 2^32: masks that cancel are gone, and what is left is the sum of what they hid. */
export class ModularSum implements ChunkRule {
  /** @throws TensorwireError `INVALID_ARGUMENT` for a tensor that holds no codes. */
  constructor(
    private readonly parts: readonly Part[],
    { name, dtype }: TensorInfo,
  ) {
    if (dtype === "U32" || dtype === "I32") return;
    const message = `sums modulo 2^32 are of codes, U32 or I32, not of ${dtype}: see linearCodes`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { tensor: name });
  }

  combine(chunk: Chunk, pool: BufferPool, target: Uint8Array): Promise<void> {
    return eachDecodedChunk(this.parts, chunk, pool, (bytes, _, index) => {
      if (index === 0) target.set(bytes);
      else addModulo32(chunk.elements, target, bytes);
    });
  }
}
